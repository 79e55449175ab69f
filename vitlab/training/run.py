"""From arguments to a trained, evaluated model: `vitlab fit`, `validate`, `test` and `predict`.

LightningCLI reads YAML and flags, links what the data know (classes, target, channels, size) to the model and runs the
Trainer. A sweep's trial takes the same road with the same arguments, so a pasted trial repeats a plotted point.
"""

import argparse
import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from vitlab.data import DataModule, write_manifest
from vitlab.training.classifier import Classifier
from vitlab.training.predictions import PredictionWriter
from vitlab.training.quick_loop import add_quick_parts, keep_freed_memory, stop_asking_for_gpus
from vitlab.training.resume import ResumeState, is_usable
from vitlab.training.settings_errors import explain
from vitlab.training.speed import Speed

Metrics = dict[str, float]

# What Lightning brings upon itself: giving it arguments, its use of torch and of jsonargparse.
_NOT_FOR_THE_USER = (
    ".*LightningCLI's args parameter is intended to run from within Python.*",
    ".*LeafSpec.* is deprecated.*",
    "(?s).*(JsonargparseDeprecationWarning|was deprecated in v4)",
    ".*Experiment logs directory .* exists and is not empty.*",  # it holds subset.json
    ".*Couldn't infer the batch indices fetched from your dataloader.*",  # PredictionWriter knows them
)
_FROM_DATA = ("num_classes", "in_channels", "image_size")
_MANIFEST = "subset.json"


class _Trainer(lightning.Trainer):
    """Lightning's Trainer with defaults that are safe for data-size experiments.

    The limits are typed again because jsonargparse would read `1` as 1.0, which means all batches instead of one.
    """

    def __init__(
        self,
        *,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | None = None,
        use_distributed_sampler: bool = False,
        **options: Any,
    ) -> None:
        add_quick_parts(options)  # in place: jsonargparse finds the Trainer's own settings by `**options` below
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            use_distributed_sampler=use_distributed_sampler,
            **options,
        )
        stop_asking_for_gpus()
        keep_freed_memory()


class _SaveConfig(SaveConfigCallback):
    """Save the config beside the logs; without a logger Lightning would write it into the working directory."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


class _CLI(LightningCLI):
    """LightningCLI for one Classifier and one DataModule."""

    metrics: Metrics

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--num_threads", type=int | None, default=None, help="CPU threads for torch; null for all cores"
        )
        parser.add_argument(
            "--test_after_fit", type=bool, default=False, help="fit only: read the test data once training has ended"
        )
        for name in ("num_classes", "target"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.add_class_arguments(Speed, "speed")
        for name in _FROM_DATA:
            parser.link_arguments(f"data.{name}", f"model.backbone.init_args.{name}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        threads = self._get(self.config, "num_threads")
        if threads is not None:
            if threads < 1:
                raise ValueError(f"num_threads is {threads}; give 1 or more, or null for all cores")
            torch.set_num_threads(threads)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        self._get(self.config_init, "speed").apply(self.model.backbone)
        self.datamodule.trainer = self.trainer  # whose processes share each batch: refused early if they cannot

    def before_fit(self) -> None:
        self.datamodule.setup("fit")  # so that bad data is refused before a log folder exists
        if self.trainer.logger is not None:
            folder = Path(self.trainer.log_dir)  # all processes must ask, because the first one answers for all
            if self.trainer.is_global_zero:
                write_manifest(folder / _MANIFEST, self.datamodule.manifest())

    def after_fit(self) -> None:
        """Measure the final weights."""
        self.metrics = _measure(self)


def main(subcommand: str, arguments: Sequence[str], callbacks: Sequence[Callback] = ()) -> None:
    """Run `vitlab fit`, `validate`, `test` or `predict`.

    Args:
        subcommand: One of the four.
        arguments: What the user typed after it.
        callbacks: Added to the Trainer's.

    Raises:
        ValueError: Something in the settings is not allowed; the message says what is.
    """
    own = {"fit": [ResumeState()], "predict": [PredictionWriter()]}.get(subcommand, [])
    cli = _start([subcommand, *arguments], {"callbacks": [*own, *callbacks]}, subcommand)
    for name, value in getattr(cli, "metrics", {}).items() if cli.trainer.is_global_zero else ():
        print(f"{name} {value:.6g}")


def fit(arguments: Sequence[str], callbacks: Sequence[Callback] = (), resume_from: Path | None = None) -> _CLI:
    """Train as `vitlab fit` would, without log files and progress bars; for sweeps.

    Args:
        arguments: What would stand after `vitlab fit`.
        callbacks: Added to the Trainer's.
        resume_from: Where a `resume.Checkpointer` saves this training; it goes on from there if there is such a file.
            One that is damaged or was written with other arguments is not used, and stderr says so.

    Returns:
        The finished command: `metrics`, `trainer`, `model` and `datamodule` hold what came out.

    Raises:
        Interrupted: A Checkpointer among the callbacks was asked to stop.
        Exception: What went wrong, as it was raised; bad settings are a ValueError.
    """
    cli = prepare(arguments, [ResumeState(arguments), *callbacks])
    start = resume_from if resume_from and is_usable(resume_from, arguments, cli.trainer) else None
    with silence():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=start, weights_only=True)
        cli.metrics = _measure(cli)
    return cli


def train(arguments: Sequence[str], callbacks: Sequence[Callback]) -> _CLI:
    """Train as `fit` does, and measure nothing afterwards: for callbacks that stop early and know what they want."""
    cli = prepare(arguments, callbacks)
    with silence():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli


def test(arguments: Sequence[str], checkpoint: Path, callbacks: Sequence[Callback] = ()) -> Metrics:  # noqa: PT028 (no test of pytest)
    """Return the test metrics of the weights in a checkpoint that a trial with these arguments has written."""
    cli = prepare(arguments, callbacks)
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    cli.model.load_state_dict(weights["state_dict"])
    with silence():
        return _metrics(cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False))


def prepare(arguments: Sequence[str], callbacks: Sequence[Callback] = ()) -> _CLI:
    """Build model, data and Trainer of a trial without training.

    Raises:
        ValueError: They cannot be built; the message says why.
    """
    silent = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    with silence():
        return _start(arguments, {**dict.fromkeys(silent, False), "callbacks": list(callbacks)})


def _start(arguments: Sequence[str], trainer_defaults: dict[str, Any], subcommand: str | None = None) -> _CLI:
    with warnings.catch_warnings():
        for message in _NOT_FOR_THE_USER:
            warnings.filterwarnings("ignore", message)
        try:
            return _cli_with(subcommand)(
                Classifier,
                DataModule,
                trainer_class=_Trainer,
                trainer_defaults=trainer_defaults,
                seed_everything_default=0,
                save_config_callback=_SaveConfig,
                save_config_kwargs={"overwrite": True},
                auto_configure_optimizers=False,
                parser_kwargs={"exit_on_error": False},
                args=list(arguments),
                run=subcommand is not None,
            )
        except argparse.ArgumentError as error:
            raise ValueError(explain(str(error))) from error


def _cli_with(subcommand: str | None) -> type[_CLI]:
    """Return the CLI with one subcommand: the parser of each takes a fifth of a second to build."""

    class _OneCommandCLI(_CLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {subcommand: LightningCLI.subcommands()[subcommand]} if subcommand else {}

    return _OneCommandCLI


def _measure(cli: _CLI) -> Metrics:
    """Return the metrics of the final weights: on validation data, and on test data if that was asked for."""
    trainer, model, datamodule = cli.trainer, cli.model, cli.datamodule
    if model.validated_at_step == trainer.global_step:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    else:
        metrics = _metrics(trainer.validate(model, datamodule=datamodule, verbose=False))
    if cli._get(cli.config, "test_after_fit"):
        metrics |= _metrics(trainer.test(model, datamodule=datamodule, verbose=False))
    return metrics


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep Lightning's notes and advice out of a sweep's or a benchmark's output; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _metrics(results: Sequence[Any]) -> Metrics:
    return {name: float(value) for name, value in results[0].items()}
