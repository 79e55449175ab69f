"""Every config that ships parses, says what it is for, and runs a step."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vitlab.sweep.rate_search import grown, num_undecided
from vitlab.sweep.sweep_file import read_sweep
from vitlab.training import run

CONFIGS = Path(__file__).parent.parent / "configs"
ALL = sorted(CONFIGS.rglob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))
MODELS = sorted((CONFIGS / "models").glob("*.yaml"))
RECIPES = sorted((CONFIGS / "recipes").glob("*.yaml"))
DATA_OF_HEADS = {"DenseHead": "vitlab.data.GlyphMasks", "TranscriptionHead": "vitlab.data.DigitLines"}


def name(path):
    return str(path.relative_to(CONFIGS).with_suffix(""))


def make_folder(root, parts, image_size, classes=3, count=8):
    generator = np.random.default_rng(0)
    for part in parts:
        for label in range(classes):
            (root / part / f"class{label}").mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (image_size, image_size + 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / f"class{label}" / f"{index}.jpg")
    return root


@pytest.fixture(autouse=True)
def quiet_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def small(settings, folder):
    """Settings that run in seconds on a CPU: what a config says of size, machine and data location is replaced."""
    dataset = settings["data"]["dataset"]
    val_size = 20 if dataset["class_path"] == "vitlab.data.Digits" else 6  # one image of each class at least
    settings["data"] |= {"train_size": 12, "batch_size": 6, "num_workers": 0, "val_size": val_size}
    if dataset["class_path"] == "vitlab.data.ImageFolder":
        dataset["init_args"]["root"] = str(folder)
    elif dataset["class_path"] == "vitlab.data.CIFAR10":  # needs a download: the same images as a folder
        dataset.update(class_path="vitlab.data.ImageFolder", init_args={"root": str(folder), "image_size": 32})
    settings["trainer"] |= {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"}
    settings["trainer"] |= {"max_steps": 1, "val_check_interval": 1, "limit_val_batches": 1}
    return settings


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_config_opens_with_its_purpose_and_command(path):
    text = path.read_text()
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith("# Purpose:  ")
    assert re.search(r"^# Command:  \S", head, re.M)
    assert re.search(r"^# (Paper|Source|Expected):", head, re.M)
    if path.parent.name == "sweeps":
        assert re.search(r"^# Cost:", head, re.M)
    assert yaml.safe_load(text)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_configs_that_a_command_names_exist(path):
    for named in re.findall(r"configs/\w+/\w+\.yaml", path.read_text()):
        assert (CONFIGS.parent / named).is_file(), named


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem == "imagenet")) for path in SWEEPS],
    ids=map(name, SWEEPS),
)
def test_every_arm_of_a_sweep_runs_a_step(path, tmp_path):
    plan = read_sweep(path)
    count = int(re.search(r"(\d+) trials", path.read_text())[1])
    assert sum(num_undecided(plan).values()) + len(plan.trials) == count, "the number of trials in the header is wrong"
    parts = ["train", "val"] if path.stem == "imagenet" else ["train", "test"]
    folder = make_folder(tmp_path / "images", parts, image_size=32)
    plan = grown(plan, {})
    for model in plan.models:
        first = next(trial for trial in plan.trials if trial.model == model)
        settings = small(yaml.safe_load(yaml.safe_dump(first.settings)), folder)
        arguments = type(first)(**{**first.__dict__, "settings": settings}).arguments
        cli = run.fit([*arguments, "--test_after_fit=true"])
        assert cli.trainer.global_step == 1
        assert 0 <= cli.metrics["val/accuracy"] <= 1
        assert 0 <= cli.metrics["test/accuracy"] <= 1


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_every_model_config_builds_and_has_the_size_it_claims(path):
    text = path.read_text()
    image_size = int(re.search(r"(\d+)px", path.stem)[1])
    data = {"class_path": "vitlab.data.Glyphs", "init_args": {"image_size": max(16, image_size)}}
    special = [dataset for head, dataset in DATA_OF_HEADS.items() if head in text]
    if special:
        data = {"class_path": special[0]}
    cli = run.prepare([f"--config={path}", f"--data.dataset={json.dumps(data)}", "--trainer.accelerator=cpu"])
    params = sum(parameter.numel() for parameter in cli.model.backbone.parameters())
    claimed = re.search(r"([\d.]+) (M|thousand) parameters", text)
    if claimed and special:
        assert params / 1e3 == pytest.approx(float(claimed[1]), rel=0.01)
    elif claimed:
        classes = 1000 if image_size == 224 else 10
        features = cli.model.backbone
        head = [p.shape[1] for p in features.parameters() if p.ndim == 2 and p.shape[0] == 2][-1]
        params += (classes - 2) * (head + 1)
        unit = 1e6 if claimed[2] == "M" else 1e3
        assert params / unit == pytest.approx(float(claimed[1]), rel=0.2 if params < 1e6 else 0.03)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_every_recipe_is_used_by_another_config(path):
    elsewhere = "".join(other.read_text() for other in ALL if other != path)
    assert f"recipes/{path.name}" in elsewhere


@pytest.fixture
def dial():
    return read_sweep(CONFIGS / "sweeps" / "window_dial.yaml")


def test_nothing_but_the_window_differs_between_the_arms_of_the_dial(dial):
    sides, rest = {}, []
    for name, settings in yaml.safe_load(yaml.safe_dump(dial.model_settings)).items():
        pattern = settings["model"]["backbone"]["init_args"]["attention"]["init_args"].pop("pattern", None)
        sides[name] = pattern["init_args"]["size"] if pattern else 2 * 8 - 1  # 8 tokens a side: all of them
        rest.append(settings)
    assert sides == {name: value for name, (_, value) in dial.dial["arms"].items()}
    assert all(settings == rest[0] for settings in rest)


def test_the_small_end_of_the_dial_is_local(dial):
    """A corner token depends on as many pixels a side as the model config says."""
    reach = {}
    for name in dial.models:
        first = next(trial for trial in dial.trials if trial.model == name)
        model = run.prepare(first.arguments).model.backbone.eval()
        images = torch.rand(1, 3, 16, 16, requires_grad=True)
        model.forward_intermediates(images).blocks[-1][0, 0].sum().backward()
        reach[name] = int((images.grad.abs().sum(dim=(0, 1, 2)) > 0).sum())
    assert reach == {"window3": 6, "window7": 14, "window11": 16, "all": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "bars"),
    [
        ("vit_dense_16px", {"test/mean_iou": 0.8, "test/accuracy": 0.96}),  # squares guessed: 0.73 and 0.96 at best
        ("vit_transcription_12px", {"test/accuracy": 0.7}),  # the whole line right
    ],
)
def test_the_command_of_a_model_for_masks_or_sequences_gives_a_model_that_has_learned(model, bars, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    text = (CONFIGS / "models" / f"{model}.yaml").read_text()
    command = re.search(r"^# Command:  vitlab fit (.*?)\n# \w+:", text, re.M | re.S)[1].replace("\n#", " ")
    metrics = run.fit(command.split()).metrics
    assert all(metrics[name] > bar for name, bar in bars.items()), metrics


@pytest.mark.slow
def test_imagenet_runs_data_parallel_on_a_folder_in_its_layout(tmp_path):
    """Two processes, as a trial of a sweep: the record is written once and counts each test image once."""
    folder = make_folder(tmp_path / "imagenet", ["train", "val"], image_size=32, count=7)
    plan = read_sweep(CONFIGS / "sweeps" / "imagenet.yaml")
    first = plan.trials[0]
    settings = small(yaml.safe_load(yaml.safe_dump(first.settings)), folder)
    settings["data"] |= {"batch_size": 4}
    settings["data"]["dataset"]["init_args"]["image_size"] = 32
    settings["trainer"] |= {"devices": 2, "strategy": "ddp"}
    one = type(first)(**{**first.__dict__, "settings": settings})
    assert one.has_many_processes
    from vitlab.sweep.worker import Job, do

    for kind in ("fit", "test"):
        answer = do(Job(kind, one, str(tmp_path / "out"), 1))
        assert answer == {"status": "done", "error": None}
    (record,) = (tmp_path / "out" / "trials").iterdir()
    content = yaml.safe_load(record.read_text())
    assert content["steps"] == 1
    assert (content["test"]["accuracy"] * 3 * 7) % 1 == pytest.approx(0, abs=1e-4)
