"""A Trainer that costs little beside the steps: what Lightning does in each of them, and nobody needs that often.

At 16 pixels a step takes some milliseconds, and Lightning's loop takes one for itself. A tenth of that is what a user
sees; so the progress bar is drawn four times a second instead of every step, and what measures nothing is left out.
"""

import contextlib
import ctypes
import os
import sys
import time
from typing import Any

import torch
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

_SECONDS_BETWEEN_DRAWINGS = 0.25
_NOTHING = contextlib.nullcontext()
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names of its settings, from malloc.h
_MOST_KEPT, _LARGE_PIECE = 2**30, 2**26  # bytes
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


class TimedProgressBar(TQDMProgressBar):
    """Lightning's progress bar, with rate and time left, drawn at most four times a second and at each end."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn_at = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draw the bar of the training if it is time to."""
        if self._is_time(batch_idx, self.train_progress_bar):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *place: int) -> None:
        """Draw the bar of the validation if it is time to."""
        if self._is_time(place[0], self.val_progress_bar):
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, *place)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *place: int) -> None:
        """Draw the bar of the test if it is time to."""
        if self._is_time(place[0], self.test_progress_bar):
            super().on_test_batch_end(trainer, pl_module, outputs, batch, *place)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *place: int) -> None:
        """Draw the bar of the prediction if it is time to."""
        if self._is_time(place[0], self.predict_progress_bar):
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, *place)

    def _is_time(self, batch_index: int, bar: Any) -> bool:
        now = time.monotonic()
        if now - self._drawn_at < _SECONDS_BETWEEN_DRAWINGS and batch_index + 1 != bar.total:
            return False
        self._drawn_at = now
        return True


class NoProfiler(PassThroughProfiler):
    """Measures nothing, without making an object for each of the thirty places in a step where it is asked to."""

    def profile(self, action_name: str) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing.

        Args:
            action_name: What would be measured.
        """
        return _NOTHING


def add_quick_parts(options: dict[str, Any]) -> None:
    """Put these parts among a Trainer's options where the user has not chosen others.

    Args:
        options: Arguments of lightning.Trainer; they are changed.
    """
    if options.get("barebones"):
        return  # Lightning's own way to leave things out takes neither
    options["profiler"] = options.get("profiler") or NoProfiler()
    callbacks = options.get("callbacks") or []
    callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if options.get("enable_progress_bar") is not False and not has_bar:
        options["callbacks"] = [*callbacks, TimedProgressBar()]


def stop_asking_for_gpus() -> None:
    """Have Adam ask for a GPU the quick way in every step, where there is none.

    Lightning has torch open NVIDIA's library instead, so as not to start the driver in a process that will fork;
    without a driver that is 30 microseconds a step in vain.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one, up to 1 GiB, in pieces below 64 MiB.

    By itself glibc gives much of it back to the system, which clears every page again before the next step gets it: up
    to a few percent of a step on a CPU. What the environment says of these settings stays, and so do other C libraries.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _USERS_OWN):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGE_PIECE)


def give_freed_memory_back() -> None:
    """Have the C library give back what it keeps; a training in this process starts small again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
