"""One trial: train it, keep its weights, write its record; and test it once it has been selected.

Everything that can go wrong inside a trial (a loss that is not a number, memory that runs out, settings that do not
fit) ends in a record with status `failed` and the error in it. The end of the process, a request to stop and a disk
that cannot be written leave no record; training then goes on later from where it was last saved.
"""

import hashlib
import io
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from vitlab.atomic_file import atomic_file
from vitlab.data import write_manifest
from vitlab.sweep.kept_predictions import MAX_IMAGES, KeptPredictions, hash_test_set, write_predictions
from vitlab.sweep.owners import is_declared_dead
from vitlab.sweep.peak_memory import measure_peak_memory, reset_peak_memory
from vitlab.sweep.plan import Trial
from vitlab.sweep.record import blank_record
from vitlab.sweep.store import Record, checkpoint_path, create_record, read_record, resume_path, write_record
from vitlab.training import run
from vitlab.training.predictions import PredictionKeeper, TestedImages
from vitlab.training.resume import Checkpointer, Interrupted, stop_requested
from vitlab.training.sharding import full_state_dict
from vitlab.training.step_cost import forward_macs, images_per_step, step_macs, step_seconds, wait_for_device

SAVE_EVERY_SECONDS = 600.0
_HISTORY_POINTS = 50


class _Course(Callback):
    """What a record tells of the training, interruptions included: about fifty losses, seconds and peak memory.

    `seconds` are all that a trial takes; `train_seconds` those of its steps, without setting up and validation.
    """

    def __init__(self) -> None:
        self.points: list[list[float]] = []  # as JSON will give them back
        self._trained, self._training_since = 0.0, math.nan
        self._start, self._seconds_before, self._peak_before = time.perf_counter(), 0.0, 0
        self._device = torch.device("cpu")
        reset_peak_memory()

    @property
    def seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._start

    @property
    def train_seconds(self) -> float:
        is_training = not math.isnan(self._training_since)
        return self._trained + (time.perf_counter() - self._training_since if is_training else 0.0)

    @property
    def peak_memory_bytes(self) -> int:
        return max(self._peak_before, measure_peak_memory(self._device))

    def state_dict(self) -> dict[str, Any]:
        names = ("points", "seconds", "train_seconds", "peak_memory_bytes")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.points = state["points"]
        self._seconds_before, self._peak_before = state["seconds"], state["peak_memory_bytes"]
        self._trained = state.get("train_seconds", 0.0)  # older versions did not tell

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._device = trainer.strategy.root_device

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._training_since = time.perf_counter()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        wait_for_device(self._device)
        self._trained, self._training_since = self.train_seconds, math.nan

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if not math.isnan(self._training_since):
            self.on_train_end(trainer, module)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn == "fit":  # and not when the final weights are measured
            self.on_train_start(trainer, module)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        interval = max(1, int(trainer.estimated_stepping_batches) // _HISTORY_POINTS)
        if trainer.global_step % interval == 0 and math.isfinite(loss := float(outputs["loss"])):
            self.points.append([trainer.global_step, round(loss, 5)])


def fit_trial(
    folder: Path, trial: Trial, num_threads: int, save_every_seconds: float = SAVE_EVERY_SECONDS, owner: str = ""
) -> Record:
    """Train a trial and write its record, whether it went well or not.

    A trial that was interrupted goes on from `resume/<id>.ckpt`, and ends with the numbers that it would have had.
    Its seconds are those of all its parts, each up to its last save; what a kill has lost does not count.

    Args:
        folder: The sweep folder.
        trial: What to train.
        num_threads: CPU threads for torch; part of the recorded arguments, since results depend on it.
        save_every_seconds: How often the state of the training is saved.
        owner: Who has it trained; nothing that fails is recorded once others took that one for dead.

    Returns:
        The trial's record: this one, or the one that it had already.

    Raises:
        Interrupted: `resume.request_stop` was called; the state is saved and there is no record.
        OSError: What came out cannot be written; the last saved state is still there.
    """
    record = blank_record(trial, num_threads)
    state, course, weights = resume_path(folder, trial.id), _Course(), None
    try:
        cli = run.fit(record["arguments"], [course, Checkpointer(state, save_every_seconds)], resume_from=state)
        record |= _results(cli, course)
        weights = full_state_dict(cli.model)  # all processes of a sharded model take part
    except Interrupted:
        raise
    except Exception as error:  # the record is where a sweep's user reads what happened
        if stop_requested() or (owner and is_declared_dead(folder, owner)):  # it was ended from outside, in parts
            raise Interrupted(str(error)) from error
        record = blank_record(trial, num_threads) | {"error": describe(error)}
    if not _is_first_process():
        return record
    if weights is not None:
        _save_weights(weights, checkpoint_path(folder, trial.id))
        write_manifest(_manifest_path(folder, trial), cli.datamodule.manifest())
    is_first = create_record(folder, record)
    if not is_first:
        print(f"vitlab: trial {trial.id} has a record already, and this result is dropped", file=sys.stderr)
    state.unlink(missing_ok=True)
    return record if is_first else read_record(folder, trial.id)


def test_trial(folder: Path, trial: Trial) -> Record:
    """Read the test data for a trial that has been selected on validation data, and add the metrics to its record.

    What was predicted for each image is kept beside the record, unless the test set has more than `MAX_IMAGES`.
    """
    record = read_record(folder, trial.id)
    if record is None or record["status"] != "done":
        raise ValueError(f"trial {trial.id} has not finished; there is nothing to test")
    weights, arguments = checkpoint_path(folder, trial.id), blank_record(trial, record["num_threads"])["arguments"]
    if not weights.exists():  # it was not selected before, and is now that seeds were added to the sweep
        _train_again(folder, trial, arguments)
    keeper = PredictionKeeper(MAX_IMAGES)
    metrics = run.test(arguments, weights, [keeper])
    _check_finite(metrics)
    record |= {"test": _of_stage(metrics, "test"), "test_error": None}
    record["arguments"] = [*arguments, "--test_after_fit=true"]
    if _is_first_process():
        _keep_predictions(
            folder, trial, keeper.tested
        )  # first: once the record has its test, nobody comes back for them
        write_record(folder, record)
    return record


def _keep_predictions(folder: Path, trial: Trial, tested: TestedImages | None) -> None:
    if tested is not None:
        test_set = hash_test_set(tested.fingerprint, tested.targets)
        labels = None if tested.predicted is None else tested.targets
        write_predictions(folder, trial.id, KeptPredictions(test_set, tested.right, labels, tested.predicted))


def _train_again(folder: Path, trial: Trial, arguments: list[str]) -> None:
    """Make the weights of a trial that has a record."""
    state = resume_path(folder, trial.id)
    cli = run.fit(arguments, [Checkpointer(state, SAVE_EVERY_SECONDS)], resume_from=state)
    # Every process writes the same, because every process will read it, and at once.
    _save_weights(full_state_dict(cli.model), checkpoint_path(folder, trial.id))
    if _is_first_process():
        state.unlink(missing_ok=True)


def check_trial(trial: Trial) -> None:
    """Build model and data of a trial and pass one image through: bad settings show before hours of work.

    Raises:
        Exception: What is wrong with the settings.
    """
    cli = run.prepare(trial.arguments)
    cli.datamodule.prepare_data()
    cli.datamodule.setup("fit")
    forward_macs(cli)


def measure_step(trial: Trial, kind: str, num_threads: int) -> dict[str, Any]:
    """Return what a step of this trial's training costs: `macs`, or `seconds` and the `device`; nothing is kept.

    Args:
        trial: A trial with steps enough.
        kind: `count` (multiply-accumulates) or `time`.
        num_threads: CPU threads for torch.

    Raises:
        Exception: What is wrong with the settings.
    """
    arguments = blank_record(trial, num_threads)["arguments"]
    if kind == "count":
        return {"macs": step_macs(arguments)}
    seconds, device = step_seconds(arguments)
    return {"seconds": seconds, "device": device}


def describe(error: BaseException) -> str:
    """Return an error as one paragraph: its type where the message alone would not say, and the message."""
    text = " ".join(str(error).split()) or "no message"
    plain = isinstance(error, ValueError) and type(error).__module__ == "builtins"
    return text if plain else f"{type(error).__name__}: {text}"


def _results(cli: Any, course: _Course) -> Record:
    _check_finite(cli.metrics)
    trainer, device = cli.trainer, cli.trainer.strategy.root_device
    steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return {
        "status": "done",
        "val": _of_stage(cli.metrics, "val"),
        "steps": trainer.global_step,
        "epochs": math.ceil(trainer.global_step / steps_per_epoch),  # Lightning's count lacks one after some resumes
        "examples_seen": trainer.global_step * images_per_step(cli),
        "seconds": round(course.seconds, 3),
        "train_seconds": round(course.train_seconds, 3),
        "params": sum(parameter.numel() for parameter in cli.model.backbone.parameters()),
        "macs": forward_macs(cli),
        "peak_memory_bytes": course.peak_memory_bytes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "history": course.points,
    }


def _is_first_process() -> bool:
    """Whether this is the process of a trial that writes: Lightning numbers the others from 1."""
    return not int(os.environ.get("LOCAL_RANK", 0)) and not int(os.environ.get("NODE_RANK", 0))


def _check_finite(metrics: run.Metrics) -> None:
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(f"{', '.join(wrong)} of the trained model is not a finite number")


def _of_stage(metrics: run.Metrics, stage: str) -> run.Metrics:
    return {name.removeprefix(f"{stage}/"): value for name, value in metrics.items() if name.startswith(f"{stage}/")}


def _save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    content = io.BytesIO()
    torch.save({"state_dict": weights}, content)  # not into the file: torch hides that the disk is full
    with atomic_file(path, "wb") as file:
        file.write(content.getbuffer())


def _manifest_path(folder: Path, trial: Trial) -> Path:
    """One file for each subset that can differ: arms with data settings of their own do not overwrite each other's."""
    data = {key: value for key, value in trial.settings["data"].items() if key not in ("augmentation", "batch_size")}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:6]
    return Path(folder) / "subsets" / f"n{trial.train_size}-seed{trial.seed}-{digest}.json"
