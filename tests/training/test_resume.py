"""A training that was interrupted ends with the same bits as one that was not."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from vitlab.training import resume, run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")

RECIPE = [
    "--model.backbone=vitlab.models.ViT",
    "--model.backbone.init_args.size={dim: 12, depth: 2, num_heads: 2, mlp_dim: 12, dropout: 0.2, drop_path: 0.3}",
    "--model.learning_rate=0.01",
    "--model.mixup_alpha=0.4",
    "--model.cutmix_alpha=0.4",
    "--data.batch_size=12",
    "--data.augmentation={class_path: vitlab.data.Augmentation, init_args: {crop_padding: 1, horizontal_flip: true}}",
    "--trainer.accelerator=cpu",
]
IN_MEMORY = [  # 50 images: 4 batches an epoch
    "--data.dataset=vitlab.data.Digits",
    "--data.train_size=50",
    "--data.val_size=100",
    "--model.backbone.init_args.patch_size=4",
]


def large_images(folder, cache):
    """Data of images too large to be held in memory, read by two processes; 46 for training: 3 batches an epoch."""
    pixels = np.random.default_rng(0)
    for split, number in (("train", 28), ("test", 3)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                image = Image.fromarray(pixels.integers(0, 256, (66, 66, 3), dtype=np.uint8))
                image.save(folder / split / name / f"{index}.png")
    dataset = f"{{class_path: vitlab.data.ImageFolder, init_args: {{root: {folder}, image_size: 66, cache: {cache}}}}}"
    options = ["--data.val_size=10", "--data.num_workers=2", "--model.backbone.init_args.patch_size=22"]
    return [f"--data.dataset={dataset}", *options]


def budget(unit, amount, accumulate=1):
    """As a sweep's plan has it: validation once, at the end."""
    steps, epochs = (amount, -1) if unit == "steps" else (-1, amount)
    interval, every = (amount, "null") if unit == "steps" else ("null", amount)
    return [
        f"--trainer.max_steps={steps}",
        f"--trainer.max_epochs={epochs}",
        f"--trainer.val_check_interval={interval}",
        f"--trainer.check_val_every_n_epoch={every}",
        f"--trainer.accumulate_grad_batches={accumulate}",
        "--trainer.num_sanity_val_steps=0",
    ]


class AskAt(Callback):
    """Asks for a stop while a step is being computed, and keeps what the model was shown."""

    def __init__(self, step=None):
        self.step, self.shown = step, []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.shown.append((trainer.current_epoch, index, batch[0].double().sum().item()))
        if trainer.global_step + 1 == self.step:
            resume.request_stop()


@pytest.fixture(autouse=True)
def nobody_has_asked():
    resume.clear_stop()
    yield
    resume.clear_stop()


def train(arguments, path, *stops):
    """Train, interrupted after these steps; return the finished command and all batches."""
    shown = []
    for step in stops:
        ask = AskAt(step)
        with pytest.raises(resume.Interrupted, match=f"after step {step}$"):
            run.fit(arguments, [ask, resume.Checkpointer(path, 600)], path)
        resume.clear_stop()
        shown += ask.shown
    ask = AskAt()
    cli = run.fit(arguments, [ask, resume.Checkpointer(path, 600)], path)
    return cli, shown + ask.shown


def same_weights(one, two):
    states = [cli.model.state_dict() for cli in (one, two)]
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("unit", "amount", "accumulate", "optimizer"),
    [
        ("steps", 11, 1, "AdamW"),
        ("epochs", 4, 2, "Muon"),
        pytest.param("steps", 9, 2, "AdamW", marks=pytest.mark.slow),
        pytest.param("epochs", 3, 1, "AdamW", marks=pytest.mark.slow),
    ],
)
def test_a_training_that_was_interrupted_many_times_ends_with_the_same_bits(
    tmp_path, unit, amount, accumulate, optimizer
):
    recipe = [*RECIPE, f"--model.optimizer=vitlab.training.{optimizer}"]
    arguments = [*recipe, *IN_MEMORY, *budget(unit, amount, accumulate)]
    undisturbed, batches = train(arguments, tmp_path / "none")
    last, epoch_end = undisturbed.trainer.global_step, 4 // accumulate
    at_random = random.Random(f"{unit} {accumulate}").sample(range(1, last), 5)
    interrupted, seen = train(arguments, tmp_path / "resume.ckpt", *sorted({*at_random, epoch_end, last}))
    assert seen == batches
    assert same_weights(interrupted, undisturbed)
    assert interrupted.metrics == undisturbed.metrics
    assert interrupted.trainer.global_step == last


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "unit", "amount", "accumulate"),
    [("none", "steps", 8, 2), ("none", "epochs", 3, 1), ("disk", "steps", 8, 2)],
)
def test_batches_that_were_read_ahead_are_not_lost(tmp_path, monkeypatch, cache, unit, amount, accumulate):
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    arguments = [*RECIPE, *large_images(tmp_path / "images", cache), *budget(unit, amount, accumulate)]
    undisturbed, batches = train(arguments, tmp_path / "none")
    interrupted, seen = train(arguments, tmp_path / "twice", 1, 5)
    assert seen == batches
    assert same_weights(interrupted, undisturbed)
    assert interrupted.metrics == undisturbed.metrics


def test_a_stop_is_remembered_until_it_is_taken_back():
    assert not resume.stop_requested()
    resume.request_stop()
    assert resume.stop_requested()
    resume.clear_stop()
    assert not resume.stop_requested()


SHORT = [*RECIPE, *IN_MEMORY, *budget("steps", 5)]


@pytest.fixture(scope="module")
def undisturbed():
    return run.fit(SHORT)


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "resume.ckpt"
    with pytest.raises(resume.Interrupted):
        run.fit(SHORT, [AskAt(2), resume.Checkpointer(path, 600)], path)
    return path


@pytest.fixture
def saved(saved_once, tmp_path):
    """Where the training SHORT was saved after its second step."""
    return Path(shutil.copy(saved_once, tmp_path))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def change_a_weight(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def fill_with_something_else(path):
    torch.save({"state_dict": {}}, path)


@pytest.mark.parametrize("spoil", [truncate, change_a_weight, fill_with_something_else])
def test_a_file_that_was_spoiled_is_not_trusted(saved, undisturbed, capsys, spoil):
    spoil(saved)
    ask = AskAt()
    cli = run.fit(SHORT, [ask], saved)
    assert len(ask.shown) == 5
    assert same_weights(cli, undisturbed)
    error = capsys.readouterr().err
    assert f"vitlab: {saved}" in error
    assert "starts from the beginning" in error


def test_a_file_of_other_settings_is_not_used(saved, capsys):
    ask = AskAt()
    run.fit([*SHORT, "--model.learning_rate=0.02"], [ask], saved)
    assert len(ask.shown) == 5
    assert "other settings" in capsys.readouterr().err


def test_what_is_saved_loads_without_running_code_and_holds_every_random_state(saved):
    checkpoint = torch.load(saved, weights_only=True)
    assert checkpoint["global_step"] == 2
    (states,) = checkpoint["vitlab_resume"]["random_states"]
    assert set(states) == {"torch", "cuda", "numpy", "python"}
    assert list(saved.parent.iterdir()) == [saved]


def test_a_training_saves_itself_from_time_to_time(tmp_path):
    path, steps = tmp_path / "resume.ckpt", []

    class Look(Callback):
        def on_train_batch_start(self, *_):
            steps.append(torch.load(path, weights_only=True)["global_step"] if path.exists() else None)

    run.fit(SHORT, [Look(), resume.Checkpointer(path, 0)])
    assert steps == [None, 1, 2, 3, 4]


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tmp_path, undisturbed, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        cli = run.fit(SHORT, [resume.Checkpointer(tmp_path / "resume.ckpt", 0)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert same_weights(cli, undisturbed)
    assert list(tmp_path.iterdir()) == []
    assert "could not be saved" in capsys.readouterr().err


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import torch
from lightning.pytorch.callbacks import Callback
from vitlab.training import resume, run

def say(line):
    print(line + "\\n", end="", flush=True)  # in one write: the other process has the same output

class Slow(Callback):
    def on_train_start(self, trainer, *_):
        say(f"rank {trainer.global_rank} {os.getpid()}")

    def on_train_batch_end(self, trainer, *_):
        say(f"step {trainer.global_step}")
        time.sleep(0.05)

for name in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(name, lambda *_: resume.request_stop())
path, out, every, *arguments = sys.argv[1:]
try:
    cli = run.fit(arguments, [resume.Checkpointer(path, float(every)), Slow()], Path(path))
except resume.Interrupted as stop:
    print(stop, flush=True)
else:
    if cli.trainer.is_global_zero:
        torch.save([cli.model.state_dict(), cli.metrics], out)
"""


def start(tmp_path, arguments, every=600, out="out.pt"):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "resume.ckpt"), str(tmp_path / out), str(every)]
    if "--trainer.devices=2" in arguments:  # Lightning starts the second process by repeating a command with a file
        (tmp_path / "program.py").write_text(PROGRAM)
        command[1:3] = [str(tmp_path / "program.py")]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(process.stderr.read())


def finish(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def matches(path, cli):
    weights, metrics = torch.load(path, weights_only=True)
    expected = cli.model.state_dict()
    return metrics == cli.metrics and all(torch.equal(weights[name], expected[name]) for name in expected)


LONGER = [*RECIPE, *IN_MEMORY, "--num_threads=1", *budget("steps", 40)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_saves_and_ends_a_process_and_another_one_finishes(tmp_path, number):
    process = start(tmp_path, LONGER)
    wait_for(process, "step 5\n")
    process.send_signal(number)
    assert "asked to stop after step" in finish(process)
    assert not (tmp_path / "out.pt").exists()
    assert "step 5\n" not in finish(start(tmp_path, LONGER))
    assert matches(tmp_path / "out.pt", run.fit(LONGER))


@pytest.mark.slow
def test_a_killed_process_costs_only_what_came_after_the_last_save(tmp_path):
    process = start(tmp_path, LONGER, every=0.3)
    wait_for(process, "step 25")
    process.kill()
    process.communicate()
    assert "step 2\n" not in finish(start(tmp_path, LONGER))
    assert matches(tmp_path / "out.pt", run.fit(LONGER))


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same_bits(tmp_path):
    arguments = [*LONGER, *budget("steps", 60), "--trainer.devices=2", "--trainer.strategy=ddp"]
    finish(start(tmp_path, arguments, out="undisturbed.pt"))
    process = start(tmp_path, arguments)
    second = int(wait_for(process, "rank 1").split()[-1])
    wait_for(process, "step 5\n")
    os.kill(second, signal.SIGUSR1)  # only one of them hears it
    assert "asked to stop after step" in finish(process)
    assert len(torch.load(tmp_path / "resume.ckpt", weights_only=True)["vitlab_resume"]["random_states"]) == 2
    assert "step 5\n" not in finish(start(tmp_path, arguments))
    (weights, metrics), (expected, expected_metrics) = (
        torch.load(tmp_path / name, weights_only=True) for name in ("out.pt", "undisturbed.pt")
    )
    assert metrics == expected_metrics
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_looking_costs_next_to_nothing(tmp_path):
    class Trainer:
        global_step, world_size = 0, 1

    checkpointer, trainer = resume.Checkpointer(tmp_path / "resume.ckpt", 600), Trainer()
    checkpointer._saved_at = time.monotonic()
    start = time.perf_counter()
    for trainer.global_step in range(1, 10_001):
        checkpointer.on_train_batch_end(trainer, None, None, None, 0)
    assert time.perf_counter() - start < 10_000 * 50e-6
