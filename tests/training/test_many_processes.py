"""Two processes give what one gives: the same images in the same steps, losses, weights, metrics and predictions."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from vitlab.cli import main
from vitlab.training import run
from vitlab.training.checkpoint import load_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_TEST, BATCH_SIZE = 1001, 32  # an odd test set
STEPS, BATCHES = 14, 24  # 2 batches a step, but 170 images make 5 batches an epoch, and the last is a step by itself
CONFIG = f"""
data:
  dataset: {{class_path: vitlab.data.Glyphs, init_args: {{num_train: 400, num_test: {NUM_TEST}}}}}
  train_size: 170
  val_size: 101
  batch_size: {BATCH_SIZE}
model:
  learning_rate: 0.003
  backbone:
    class_path: vitlab.models.ViT
    init_args: {{patch_size: 4, size: micro}}
num_threads: 1
trainer:
  accelerator: cpu
  max_steps: {STEPS}
  max_epochs: -1
  accumulate_grad_batches: 2
  log_every_n_steps: 1
  logger: {{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {{save_dir: logs, version: run}}}}
  enable_progress_bar: false
  callbacks: [{{class_path: recorder.Recorder}}]
"""
RECORDER = '''
import json
from pathlib import Path

import lightning
import torch


class Recorder(lightning.Callback):
    """Notes what each process saw."""

    def __init__(self) -> None:
        self.batches, self.tested = [], 0

    def on_train_batch_start(self, trainer, module, batch, index):
        sums = [image.double().sum().item() for image in batch[0]]
        self.batches.append([[round(total, 6), target] for total, target in zip(sums, batch[1].tolist())])

    def on_train_end(self, trainer, module):
        self.write(trainer, "fit", batches=self.batches, noise=torch.rand(3).tolist(), steps=trainer.global_step,
                   planned=trainer.estimated_stepping_batches)

    def on_test_batch_start(self, trainer, module, batch, index):
        self.tested += len(batch[1])

    def on_test_end(self, trainer, module):
        self.write(trainer, "test", tested=self.tested)

    def write(self, trainer, stage, **seen):
        Path(trainer.logger.log_dir, f"{stage}-{trainer.global_rank}.json").write_text(json.dumps(seen))


class Poison(lightning.Callback):
    """Spoils a batch of the second process."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 3 and trainer.global_rank == 1:
            batch[0].fill_(float("nan"))
'''
TWO = ["--trainer.devices=2"]
DDP, FSDP2 = [*TWO, "--trainer.strategy=ddp"], [*TWO, f"--config={CONFIGS}/launchers/fsdp2.yaml", *TWO]
RESNET = [
    "--model.backbone=vitlab.models.ResNet",
    *("--model.backbone.init_args.size=micro", "--model.backbone.init_args.norm=group"),
    "--model.optimizer=vitlab.training.SGD",
]
MUON = ["--model.optimizer=vitlab.training.Muon"]
TRANSCRIPTION = [
    "--data.dataset={class_path: vitlab.data.DigitLines, init_args: {num_train: 60, num_val: 11, num_test: 13}}",
    *("--data.train_size=30", "--data.val_size=10"),
    "--model.backbone.init_args.head=vitlab.models.TranscriptionHead",
]


def fit(name: str, *more: str) -> list[str]:
    return ["fit", "--config=config.yaml", f"--trainer.logger.init_args.name={name}", *more]


def on(subcommand: str, name: str, checkpoint: str | None, *more: str) -> list[str]:
    weights = [f"--ckpt_path=logs/{checkpoint}/run/checkpoints/last.ckpt"] if checkpoint else []
    return [subcommand, *fit(name, f"--trainer.default_root_dir=logs/{name}")[1:], *weights, *more]


SAVE_LAST = (
    "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {save_last: true}}"
)
ONE_PROCESS = [
    fit("vit", SAVE_LAST),
    fit("resnet", *RESNET, SAVE_LAST),
    fit("muon", *MUON),
    on("test", "tested", "vit"),
    on("predict", "predicted", "vit"),
    on("predict", "lines", None, *TRANSCRIPTION),
]
TWO_PROCESSES = [
    fit("vit_ddp", SAVE_LAST, *DDP),
    fit("vit_fsdp", SAVE_LAST, *FSDP2),
    fit("resnet_ddp", *RESNET, SAVE_LAST, *DDP),
    fit("muon_ddp", *MUON, *DDP),
    fit("muon_fsdp", *MUON, *FSDP2),
    on("test", "tested_ddp", "vit", *DDP),
    on("test", "tested_fsdp", "vit", *FSDP2),
    on("predict", "predicted_ddp", "vit", *DDP),
    on("predict", "lines_ddp", None, *TRANSCRIPTION, *DDP),
]
DIVERGES = fit("diverges", "--trainer.callbacks+=recorder.Poison", *DDP)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "recorder.py").write_text(RECORDER)
    return folder


@pytest.fixture(scope="module")
def logs(folder):
    """What one process leaves (this one) and what two leave, which run all their commands: they start slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        assert [main(command) for command in ONE_PROCESS] == [0] * len(ONE_PROCESS)
    lines = ["from vitlab.cli import main", *(f"assert main({command!r}) == 0" for command in TWO_PROCESSES)]
    (folder / "commands.py").write_text("\n".join([*lines, f"assert main({DIVERGES!r}) == 2"]))
    (folder / "stderr.txt").write_text(started(folder, "commands.py").stderr)
    return folder / "logs"


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended


def seen(logs: Path, name: str, stage: str, num_processes: int) -> list[dict[str, Any]]:
    files = sorted((logs / name / "run").glob(f"{stage}-*.json"))
    assert len(files) == num_processes
    return [json.loads(file.read_text()) for file in files]


def logged(logs: Path, name: str, metric: str) -> list[float]:
    with open(logs / name / "run" / "metrics.csv", newline="") as file:
        return [float(row[metric]) for row in csv.DictReader(file) if row.get(metric)]


def weights(logs: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(logs / name / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def largest_difference(logs: Path, name: str, other: str) -> float:
    """Of all weights but the key biases: every query scores all keys higher by the same, which softmax does not see.

    Their gradient is zero but for rounding, which AdamW blows up to full steps.
    """
    differences, others = {}, weights(logs, other)
    for key, value in weights(logs, name).items():
        difference = (value - others[key]).abs()
        if key.endswith("attention.qkv.bias"):
            queries, _, values = difference.chunk(3)
            difference = torch.cat([queries, values])
        differences[key] = float(difference.max())
    assert set(differences) == set(others)
    return max(differences.values())


PAIRS = [("vit", "vit_ddp"), ("vit", "vit_fsdp"), ("resnet", "resnet_ddp")]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "two"), PAIRS)
class TestTraining:
    def test_two_processes_share_the_images_of_each_batch_of_one(self, logs, one, two):
        (whole,), shares = seen(logs, one, "fit", 1), seen(logs, two, "fit", 2)
        assert len(whole["batches"]) == BATCHES
        for batch, *parts in zip(whole["batches"], *(share["batches"] for share in shares), strict=True):
            assert [len(part) for part in parts] == [BATCH_SIZE // 2] * 2
            assert sorted(parts[0] + parts[1]) == sorted(batch)
        assert {(share["steps"], share["planned"]) for share in [whole, *shares]} == {(STEPS, STEPS)}

    def test_losses_and_final_weights_are_those_of_one_process(self, logs, one, two):
        losses = logged(logs, one, "train/loss")
        assert len(losses) == STEPS
        assert logged(logs, two, "train/loss") == pytest.approx(losses, abs=1e-5)
        assert largest_difference(logs, one, two) < 1e-5

    def test_processes_draw_different_random_numbers(self, logs, one, two):
        noise = [share["noise"] for share in seen(logs, two, "fit", 2)]
        assert len({*noise[0], *noise[1]}) == 6

    def test_both_leave_the_same_files(self, logs, one, two):
        def left(name):
            paths = {str(path.relative_to(logs / name)) for path in (logs / name).rglob("*")}
            return {path for path in paths if not path.endswith(".json") or path.endswith("subset.json")}

        assert left(one) == left(two)
        assert (logs / one / "run/subset.json").read_text() == (logs / two / "run/subset.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("two", ["muon_ddp", "muon_fsdp"])
def test_two_processes_take_muon_steps_of_whole_matrices_as_one_does(logs, two):
    losses = logged(logs, "muon", "train/loss")
    assert len(losses) == STEPS
    assert logged(logs, two, "train/loss") == pytest.approx(losses, abs=1e-3)  # orthogonalized in bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("two", ["tested_ddp", "tested_fsdp"])
@pytest.mark.parametrize("metric", ["accuracy", "top5_accuracy", "nll", "calibration_error"])
def test_metrics_of_the_same_weights_are_equal_to_the_last_digit(logs, two, metric):
    (expected,) = logged(logs, "tested", f"test/{metric}")
    assert logged(logs, two, f"test/{metric}") == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("two", ["tested_ddp", "tested_fsdp"])
def test_each_test_image_is_counted_once(logs, two):
    counts = [share["tested"] for share in seen(logs, two, "test", 2)]
    assert sorted(counts) == [NUM_TEST // 2, NUM_TEST // 2 + 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predicted", "lines"])
def test_predictions_of_two_processes_are_one_file_in_the_order_of_the_images(logs, name):
    files = list((logs / f"{name}_ddp").rglob("predictions*.csv"))
    assert [file.name for file in files] == ["predictions.csv"]
    assert files[0].read_text() == (logs / name / "predictions.csv").read_text()


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_in_one_process_stops_both_with_words(logs):
    errors = [line for line in (logs.parent / "stderr.txt").read_text().splitlines() if line.startswith("vitlab: ")]
    assert sorted(error.partition(" at step 1 ")[0] for error in errors) == [
        "vitlab: error: the training loss is nan",
        "vitlab: error: the training loss of another process is not a number",
    ]


@pytest.mark.slow
def test_the_checkpoint_of_a_sharded_model_is_read_by_one_process(logs, monkeypatch):
    monkeypatch.chdir(logs.parent)
    model = load_model(str(logs / "vit_fsdp/run/checkpoints/last.ckpt")).model
    saved = weights(logs, "vit_fsdp")
    assert all(torch.equal(saved[f"backbone.{key}"], value) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_the_command_prints_metrics_once_says_what_batch_norm_does_and_measures_what_it_saves(folder, monkeypatch):
    model = "--model.backbone=vitlab.models.ResNet"
    arguments = fit("batch_norm", model, SAVE_LAST, "--test_after_fit=true", *DDP)
    ended = started(folder, "-m", "vitlab.cli", *arguments)
    printed = [line.split() for line in ended.stdout.splitlines() if line.startswith(("val/", "test/"))]
    assert len(printed) == len({name for name, _ in printed}) == 8
    assert ended.stderr.count("the model has BatchNorm, and each of the 2 processes normalizes by its own share") == 1
    assert "Experiment logs directory" not in ended.stderr
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    assert main(on("test", "batch_norm_tested", "batch_norm", model)) == 0
    for name, value in printed[4:]:
        assert [float(value)] == pytest.approx(logged(folder / "logs", "batch_norm_tested", name), rel=1e-5)


@pytest.fixture
def config(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainer.devices=3"], "batch_size 32 (over all processes) is not divisible by 3 processes; use 30 or 33"),
        (["--trainer.devices=5", "--data.batch_size=3"], "not divisible by 5 processes; use 5, or"),
        (
            ["--trainer.devices=4", "--data.train_size=18"],
            "18 training images are less than a batch of 32, so all of them make one batch, and 4 processes cannot",
        ),
    ],
)
def test_unequal_shares_are_one_clear_error_before_a_process_starts(config, folder, capsys, arguments, words):
    assert main(fit("refused", "--trainer.strategy=ddp", *arguments)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitlab: ")]
    assert words in line
    assert "LOCAL_RANK" not in os.environ  # Lightning's mark of having started others
    assert not (folder / "logs" / "refused").exists()


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "two_nodes"])
def test_the_launcher_configs_are_what_their_header_says(config, name):
    arguments = [f"--config={CONFIGS}/launchers/{name}.yaml", "--trainer.devices=2", "--trainer.accelerator=cpu"]
    trainer = run.prepare(["--config=config.yaml", *arguments]).trainer
    strategy = {"fsdp2": ModelParallelStrategy}.get(name, DDPStrategy)
    assert type(trainer.strategy) is strategy
    assert trainer.num_nodes * trainer.num_devices == (4 if name == "two_nodes" else 2)
