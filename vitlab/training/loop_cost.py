"""What `vitlab fit` costs beside the steps themselves: its epochs in turns with those of a bare PyTorch loop.

The bare loop has the same model, the same batches, ready on the device, and does forward, backward and optimizer, and
in validation forward alone. All else is overhead: reading and normalizing images, hooks, metrics, logs, progress bar,
checkpoints. Both take turns epoch by epoch within one training, so that a noisy machine slows both alike.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from vitlab.training import run
from vitlab.training.classifier import Classifier
from vitlab.training.throughput import cpu_threads

Seconds = tuple[float, float]  # by the clock, and of this process on the CPUs


@dataclass(frozen=True)
class LoopCase:
    """A training to be timed beside the bare loop.

    Args:
        name: What tables call it.
        arguments: What would stand after `vitlab fit`, but for the number of epochs and the folder.
    """

    name: str
    arguments: list[str] = field(default_factory=list)


def bench_loop(
    rounds: int = 5, num_threads: int | None = None, device: str = "cpu", cases: Sequence[LoopCase] | None = None
) -> list[dict[str, Any]]:
    """Time epochs of `vitlab fit`, as a user runs it, beside those of a bare loop.

    Args:
        rounds: Timed epochs of each, 1 or more; one more comes first and is not counted.
        num_threads: CPU threads, 1 or more; None leaves torch's setting.
        device: Where to train, such as cpu or cuda.
        cases: Which trainings; None: those of glyphs' and of CIFAR's size.

    Returns:
        One row a training: `name`, `steps` (of an epoch), `fit_ms` and `bare_ms` (medians a step, by the clock),
        `share` (of an epoch's time that the bare loop takes, by the clock, median), `share_low` and `share_high`
        (quartiles; the extremes with fewer than four rounds), and `share_cpu`, the median of the shares of CPU time:
        other programs do not count there. An epoch's time includes its validation, its end and its checkpoint.

    Raises:
        ValueError: No rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, got {rounds}")
    with cpu_threads(num_threads):
        return [_row(case, rounds, device) for case in (CASES if cases is None else cases)]


def format_loop_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return bench_loop's rows as a table in Markdown.

    Args:
        rows: What bench_loop gave.
    """
    lines = [
        "| training | steps an epoch | fit, ms a step | bare loop, ms a step | share of the bare loop | quartiles "
        "| share of CPU time |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {row['name']} | {row['steps']} | {row['fit_ms']:.2f} | {row['bare_ms']:.2f} | {row['share']:.3f} | "
        f"{row['share_low']:.3f} to {row['share_high']:.3f} | {row['share_cpu']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


class BareLoop(Callback):
    """Trains a copy of the model by a bare loop before each epoch of the training, and times both.

    Attributes:
        bare: Seconds of each epoch of the bare loop.
        fit: Seconds of each epoch of the training, from its start to the start of the next.
        steps: Steps of an epoch.
    """

    def __init__(self) -> None:
        self.bare: list[Seconds] = []
        self.fit: list[Seconds] = []
        self.steps = 0
        self._began: Seconds | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Classifier) -> None:
        """Make the copy, and have all batches ready."""
        data = trainer.datamodule
        self._device = trainer.strategy.root_device
        self._model = deepcopy(pl_module.backbone).train()
        self._optimizer = pl_module.optimizer.build(self._model, pl_module.learning_rate)
        self._loss = pl_module.objective.loss
        self._train, self._val = (
            [(data.normalize(images.to(self._device)), targets.to(self._device)) for images, targets in loader]
            for loader in (data.train_dataloader(), data.val_dataloader())
        )
        self.steps = len(self._train)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Classifier) -> None:
        """End an epoch of the training, run one of the bare loop, and begin the next."""
        if self._began is not None:
            self.fit.append(self._since(self._began))
        began = self._now()
        self._epoch()
        self.bare.append(self._since(began))
        self._began = self._now()

    def _epoch(self) -> None:
        for images, targets in self._train:
            self._optimizer.zero_grad()
            self._loss(self._model(images), targets).backward()
            self._optimizer.step()
        self._model.eval()
        with torch.inference_mode():
            for images, _ in self._val:
                self._model(images)
        self._model.train()

    def _now(self) -> Seconds:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()

    def _since(self, began: Seconds) -> Seconds:
        now = self._now()
        return now[0] - began[0], now[1] - began[1]


def measure_loop(arguments: Sequence[str], rounds: int) -> BareLoop:
    """Run a training beside a bare loop and return what it took.

    Args:
        arguments: What would stand after `vitlab fit`, but for the number of epochs and the folder.
        rounds: Timed epochs, 1 or more; the first of a training is left out.
    """
    beside = BareLoop()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), run.silence():
        # The last epoch is not counted: no start of another ends it.
        end = [f"--trainer.max_epochs={rounds + 2}", f"--trainer.default_root_dir={folder}"]
        run.main("fit", [*arguments, *end], callbacks=[beside])
    beside.bare, beside.fit = beside.bare[1 : rounds + 1], beside.fit[1 : rounds + 1]
    return beside


def _row(case: LoopCase, rounds: int, device: str) -> dict[str, Any]:
    kind, _, index = device.partition(":")
    where = [f"--trainer.accelerator={kind}", f"--trainer.devices={f'[{index}]' if index else 1}"]
    measured = measure_loop([*case.arguments, *where], rounds)
    shares, shares_cpu = (
        sorted(bare[clock] / fit[clock] for bare, fit in zip(measured.bare, measured.fit, strict=True))
        for clock in (0, 1)
    )
    low, _, high = statistics.quantiles(shares, n=4) if rounds >= 4 else (shares[0], 0.0, shares[-1])
    per_step = {
        f"{name}_ms": statistics.median(seconds[0] for seconds in epochs) / measured.steps * 1e3
        for name, epochs in (("fit", measured.fit), ("bare", measured.bare))
    }
    return {
        "name": case.name,
        "steps": measured.steps,
        **per_step,
        "share": statistics.median(shares),
        "share_low": low,
        "share_high": high,
        "share_cpu": statistics.median(shares_cpu),
    }


def _glyphs(image_size: int, num_images: int, backbone: str, batch_size: int, *more: str) -> list[str]:
    return [
        "--data.dataset=vitlab.data.Glyphs",
        f"--data.dataset.image_size={image_size}",
        f"--data.dataset.num_train={num_images + 1000}",
        "--data.val_size=1000",
        f"--data.batch_size={batch_size}",
        f"--model.backbone={backbone}",
        *more,
    ]


_VIT_16 = "{class_path: vitlab.models.ViT, init_args: {size: micro, patch_size: 4}}"
_RESNET_16 = "{class_path: vitlab.models.ResNet, init_args: {size: micro}}"
_VIT_32 = (
    "{class_path: vitlab.models.ViT, init_args: {patch_size: 4, size: {dim: 96, depth: 4, num_heads: 4, mlp_dim: 192}}}"
)
_AUGMENTED = (
    "--data.augmentation={class_path: vitlab.data.Augmentation, init_args: {crop_padding: 4, horizontal_flip: true}}"
)
_QUIET = ("--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.enable_checkpointing=false")
_HOST = "--data.residency=host"

CASES = (
    LoopCase("glyphs 16 px, ViT micro, batch 64", _glyphs(16, 8000, _VIT_16, 64)),
    LoopCase("the same without logs, bar and checkpoints", _glyphs(16, 8000, _VIT_16, 64, *_QUIET)),
    LoopCase("the same, images from the host", _glyphs(16, 8000, _VIT_16, 64, _HOST)),
    LoopCase("glyphs 16 px, ResNet micro, batch 64", _glyphs(16, 8000, _RESNET_16, 64)),
    LoopCase("32 px, ViT 96/4/4, batch 128, crop and flip", _glyphs(32, 2560, _VIT_32, 128, _AUGMENTED)),
    LoopCase("the same, images from the host", _glyphs(32, 2560, _VIT_32, 128, _AUGMENTED, _HOST)),
)
