"""The most memory that a trial held at once, in a process that does one trial after the other."""

import atexit
import contextlib
import gc
import sys
from pathlib import Path

import torch

from vitlab.training.quick_loop import give_freed_memory_back

_MOST_FREEZES = 2
_num_freezes = 0


def reset_peak_memory() -> None:
    """Begin to measure: free what earlier trials of this process left, and forget their peaks."""
    _collect_garbage()
    give_freed_memory_back()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # only Linux has it; elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")


def measure_peak_memory(device: torch.device) -> int:
    """Return the peak since the last reset in bytes: of a GPU's allocator, or the resident memory of this process.

    Args:
        device: Where the trial is trained.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def look_at_libraries_again() -> None:
    """Let Python free everything again that nobody needs; for a process that goes on after its trials."""
    global _num_freezes
    gc.unfreeze()
    _num_freezes = 0


def _collect_garbage() -> None:
    """Free objects that refer to each other, without a look at every object of the libraries: that takes 0.25 s.

    Whatever is there at the first trial is left alone from then on, and at the second what the first has imported.
    """
    global _num_freezes
    gc.collect()
    if _num_freezes < _MOST_FREEZES:
        gc.freeze()
        _num_freezes += 1


# Compiled libraries report at the end what was never freed.
atexit.register(gc.unfreeze)
