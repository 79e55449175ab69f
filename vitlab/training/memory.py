"""How much memory a training step takes, counted and not sampled.

What the forward pass keeps for the backward one is counted tensor by tensor; the peak of a step is what the allocator
had given out at once, from its own list of every allocation. Neither depends on what else the machine does.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def kept_bytes(layer: Callable[[Tensor], Tensor], tokens: Tensor) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, each storage counted once, weights left out.

    Args:
        layer: Maps a tensor, such as tokens or images, to another.
        tokens: What it is given, such as (batch, tokens, dim).
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in getattr(layer, "parameters", list)()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = layer(tokens)
    del outputs
    return sum(kept.values())


def peak_bytes(step: Callable[[], Any], device: str = "cpu") -> int:
    """Return the most memory that a call holds at once beyond what was there before it.

    Args:
        step: What to measure, such as a training step. Call it once before, so that what it keeps for good is there,
            and free what it will free (gradients), since memory from before that is given back is not seen on a CPU.
        device: Where it runs, such as cpu or cuda.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its notes to stderr are no news
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    for change in _allocations(recorded):
        held += change
        peak = max(peak, held)
    return peak


def _allocations(recorded: profile) -> list[int]:
    """Return the bytes of every allocation, negative where memory was given back, in the order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    return [event["args"]["Bytes"] for event in sorted(changes, key=lambda event: event["ts"])]
