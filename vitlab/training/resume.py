"""Interrupting a training, and going on with it later as if nothing had happened: to the bit, on the same machine.

Lightning's checkpoints hold weights, optimizer, schedule and progress. To end with the weights that an undisturbed
training would have, three more things must be as they were: the random numbers of dropout and MixUp in every process,
the batches that were left of the epoch, and the moment: only after a whole step of the optimizer.
"""

import random
import signal
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import distributed

from vitlab.atomic_file import atomic_file

_KEY = "vitlab_resume"
_GO_ON, _SAVE, _STOP = 0, 1, 2
# Several processes agree about once a second: soon enough for a scheduler's signal, which comes half a minute or more
# before the end, and too seldom to be felt beside the steps. Slow steps are looked at one by one.
_SECONDS_BETWEEN_LOOKS = 1.0
_MAX_STEPS_BETWEEN_LOOKS = 100

_stop_requested = False  # not a threading.Event, whose lock a signal's handler might find taken


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """A training was asked to stop; it is saved (or says that it could not be) and can go on later."""


def request_stop() -> None:
    """Have the training in this process saved and ended after its step; safe to call in a signal's handler."""
    global _stop_requested
    _stop_requested = True


def clear_stop() -> None:
    """Take back `request_stop`."""
    global _stop_requested
    _stop_requested = False


def stop_requested() -> bool:
    """Whether the training in this process has been asked to stop."""
    return _stop_requested


class ResumeState(Callback):
    """Put into every checkpoint what Lightning leaves out of it, and restore that when training goes on.

    Args:
        settings: What the training was started with, for `is_usable`.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self._settings = list(settings)
        self._restored: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes and the place in the epoch."""
        checkpoint[_KEY] = {
            "settings": self._settings,
            "random_states": _gathered(_random_states(trainer.strategy.root_device)),
            "loader": trainer.train_dataloader.state_dict(),
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember it until training starts: what is set up before that draws random numbers of its own."""
        self._restored = checkpoint.get(_KEY)
        _unfinish_epoch(checkpoint)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Restore it, unless this is a fresh start."""
        if len(set(_gathered(trainer.global_step))) > 1:  # a shared disk that shows a file to one node and not another
            raise Interrupted("the processes of this training start from different states; start it again")
        if self._restored is None:
            return
        fit_loop = trainer.fit_loop
        if fit_loop.restarted_mid_epoch or fit_loop.restarted_on_epoch_end:
            # Lightning does not count the epoch that it goes on with, if that is the next one; and after another
            # interruption it would take the epoch for finished.
            for progress in (fit_loop.epoch_progress.total, fit_loop.epoch_progress.current):
                progress.ready = progress.started = progress.processed + 1
        # Lightning does this too, but not where the length of an epoch was asked for before the checkpoint was read.
        trainer.train_dataloader.load_state_dict(self._restored["loader"])
        states = self._restored["random_states"]
        if len(states) == trainer.world_size:
            _set_random_states(states[trainer.global_rank], trainer.strategy.root_device)
        else:
            rank_zero_warn(
                f"the checkpoint was written by {len(states)} processes and training goes on with "
                f"{trainer.world_size}, so dropout and MixUp draw other random numbers than without an interruption"
            )
        self._restored = None


class Checkpointer(Callback):
    """Save a training from time to time, and when it is asked to stop.

    It must come after the callbacks whose state it saves. While it is on, SIGTERM is left to whoever handled it before.

    Args:
        path: Where to save; a save replaces the one before once it is complete.
        save_every_seconds: How often to save; a stop saves at once.

    Raises:
        Interrupted: From the training, once `request_stop` was called in one of its processes.
    """

    def __init__(self, path: Path, save_every_seconds: float) -> None:
        self.path, self.save_every_seconds = Path(path), save_every_seconds
        self._sigterm_handler = signal.getsignal(signal.SIGTERM)
        self._step = self._looked_at_step = self._next_look = 0
        self._looked_at = self._saved_at = 0.0

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Have sharded models saved in one file as well, because only one file can be replaced in one go."""
        if isinstance(trainer.strategy, ModelParallelStrategy):
            trainer.strategy._save_distributed_checkpoint = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._step = self._looked_at_step = trainer.global_step
        self._next_look = self._step + 1
        self._looked_at = self._saved_at = time.monotonic()
        # Lightning's own handler would end the training before it is saved.
        if callable(self._sigterm_handler) and callable(signal.getsignal(signal.SIGTERM)):
            signal.signal(signal.SIGTERM, self._sigterm_handler)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save and stop where it is time to."""
        step = trainer.global_step
        if step == self._step:  # gradients are being accumulated, and no checkpoint holds them
            return
        self._step = step
        now = time.monotonic()
        wish = _STOP if _stop_requested else _SAVE if now - self._saved_at >= self.save_every_seconds else _GO_ON
        if trainer.world_size > 1:
            wish = self._agreed(trainer, wish, now)
        if wish == _GO_ON:
            return
        self._save(trainer)
        if wish == _STOP:
            raise Interrupted(f"training was asked to stop after step {step}")

    def _agreed(self, trainer: lightning.Trainer, wish: int, now: float) -> int:
        """Return what the most pressing of all processes wishes; they also agree on the step to look at next."""
        if self._step < self._next_look:
            return _GO_ON
        seconds_per_step = (now - self._looked_at) / (self._step - self._looked_at_step)
        wishes = torch.tensor([wish, seconds_per_step], device=trainer.strategy.root_device)
        distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
        wish, seconds_per_step = wishes.tolist()
        steps = int(min(_SECONDS_BETWEEN_LOOKS / max(seconds_per_step, 1e-6), _MAX_STEPS_BETWEEN_LOOKS))
        self._looked_at, self._looked_at_step, self._next_look = now, self._step, self._step + max(1, steps)
        return int(wish)

    def _save(self, trainer: lightning.Trainer) -> None:
        strategy = trainer.strategy
        usual, strategy.checkpoint_io = strategy.checkpoint_io, _WholeFile()
        try:
            trainer.save_checkpoint(self.path)
        finally:
            strategy.checkpoint_io = usual
        self._saved_at = time.monotonic()


class _WholeFile(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all. A full disk costs the checkpoint, not the training."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with atomic_file(Path(path), "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch makes the second of the first
            print(f"vitlab: the training could not be saved to {path}: {error}", file=sys.stderr, flush=True)


def is_usable(path: Path, settings: Sequence[str], trainer: lightning.Trainer) -> bool:
    """Whether a training can go on from a file; if there is one and it cannot, stderr says why.

    Args:
        path: The file, perhaps.
        settings: What the training is started with; the file must have been written with the same.
        trainer: What will train.
    """
    if not Path(path).exists():
        return False
    problem = _problem_with(Path(path), list(settings), trainer.world_size)
    if problem and trainer.is_global_zero:
        print(f"vitlab: {path} {problem}; training starts from the beginning", file=sys.stderr, flush=True)
    return problem is None


def _problem_with(path: Path, settings: list[str], num_processes: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged:
            return f"is damaged in {damaged}"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[_KEY]  # mmap: reads no weights
        if state["settings"] != settings:
            return "was written by a training with other settings"
        if len(state["random_states"]) != num_processes:
            return f"was written by {len(state['random_states'])} processes, and now there are {num_processes}"
    except Exception as error:  # whatever may be in the file, it is not worth a training
        return f"cannot be read ({type(error).__name__}: {error})"
    return None


def _unfinish_epoch(checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint from the end of an epoch look like one from the end of its last batch.

    From the former Lightning goes on with a batch too many where `max_steps` is given, from the latter exactly.
    """
    epochs, batches = (
        checkpoint["loops"]["fit_loop"][name] for name in ("epoch_progress", "epoch_loop.batch_progress")
    )
    if epochs["current"]["completed"] == epochs["current"]["processed"] - 1:
        for part in ("total", "current"):
            epochs[part]["processed"] -= 1
            batches[part]["completed"] -= 1


def _gathered(value: Any) -> list[Any]:
    """Return the values of all processes."""
    if not distributed.is_initialized():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all generators of this process, in types that torch loads without running code."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def _set_random_states(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
