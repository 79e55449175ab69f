"""The quick parts draw less and measure nothing, and change no number."""

import ctypes
import subprocess
import sys

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitlab.data import DataModule, Digits
from vitlab.training import Classifier, quick_loop, run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}


def train(trainer_class, **options):
    torch.manual_seed(0)
    module = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10)), 10)
    trainer = trainer_class(max_epochs=2, **QUIET, **options)
    data = DataModule(Digits(), train_size=110, val_size=70, batch_size=10)
    data.trainer = trainer
    trainer.fit(module, datamodule=data)
    return trainer, module


class Counted(quick_loop.TimedProgressBar):
    """Notes for which batches it was drawn."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def get_metrics(self, trainer, model):
        self.drawn.append(self.train_progress_bar.n)
        return super().get_metrics(trainer, model)


def test_the_bar_is_drawn_when_its_time_has_come_and_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(quick_loop.time, "monotonic", lambda: 1000.0)  # no time passes
    bar = Counted()
    train(run._Trainer, callbacks=[bar])
    assert 11 in bar.drawn
    assert not set(bar.drawn) & set(range(1, 11))
    assert "Epoch 1: 100%" in capsys.readouterr().out


def test_the_bar_is_drawn_every_step_where_steps_are_slow(monkeypatch, capsys):
    clock = iter(range(10**6))
    monkeypatch.setattr(quick_loop.time, "monotonic", lambda: next(clock))
    bar = Counted()
    train(run._Trainer, callbacks=[bar])
    assert set(range(1, 12)) <= set(bar.drawn)


class Waits(TorchDispatchMode):
    """Counts the numbers that Python asks a device for: on a GPU each waits for all work that is queued."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


class CountsWaits(Callback):
    """Counts them in each step: from the batch's arrival to its end."""

    def __init__(self):
        self.per_step = []

    def on_train_batch_start(self, *_):
        self.waits = Waits()
        self.waits.__enter__()

    def on_train_batch_end(self, *_):
        self.waits.__exit__(None, None, None)
        self.per_step.append(self.waits.number)


@pytest.mark.parametrize(("between_checks", "num_waits"), [(1, 22), (20, 2)])
def test_no_step_on_a_gpu_waits_for_it_but_where_the_loss_is_checked(monkeypatch, between_checks, num_waits):
    monkeypatch.setattr(Classifier, "_steps_between_checks", between_checks)  # 1 on a CPU, 20 on a GPU
    counts = CountsWaits()
    train(run._Trainer, callbacks=[counts], enable_progress_bar=False)
    assert len(counts.per_step) == 22
    assert sum(counts.per_step) == num_waits


FAULTS = """
import resource, sys, torch
from vitlab.training.quick_loop import give_freed_memory_back, keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    [torch.ones(2_000_000) for _ in range(5)]  # 8 MB each
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
step()
before = pages()
for _ in range(10):
    step()
after, full = pages(), held()
give_freed_memory_back()
print(after - before, full - held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_that_a_step_frees_is_kept_for_the_next_and_given_back_when_asked(monkeypatch):
    def measured(how):
        run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return map(int, run.stdout.split())

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    page_faults, given_back = measured("kept")
    assert page_faults < 10_000  # of 98,000 pages
    assert given_back > 30e6
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "100000")  # a user's own choice stays
    page_faults, _ = measured("kept")
    assert page_faults > 50_000


def test_the_trained_weights_are_those_of_lightnings_trainer_to_the_bit():
    (_, ours), (_, theirs) = train(run._Trainer), train(lightning.Trainer, use_distributed_sampler=False)
    for quick, usual in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(quick, usual)


def test_what_the_user_chose_is_kept():
    bar, profiler = TQDMProgressBar(), SimpleProfiler()
    trainer = run._Trainer(callbacks=bar, profiler=profiler, **QUIET)
    assert [callback for callback in trainer.callbacks if isinstance(callback, TQDMProgressBar)] == [bar]
    assert trainer.profiler is profiler
    assert run._Trainer(enable_progress_bar=False, **QUIET).progress_bar_callback is None
    options = {"barebones": True}
    quick_loop.add_quick_parts(options)
    assert options == {"barebones": True}


def test_without_a_choice_there_are_the_quick_parts():
    trainer = run._Trainer(**QUIET)
    assert isinstance(trainer.progress_bar_callback, quick_loop.TimedProgressBar)
    assert isinstance(trainer.profiler, quick_loop.NoProfiler)
    with trainer.profiler.profile("outer"), trainer.profiler.profile("inner"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to ask for")
def test_a_training_without_a_gpu_asks_the_driver_not_the_library(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    run._Trainer(**QUIET)
    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", lambda: pytest.fail("the library was opened"))
    assert torch.accelerator.current_accelerator(check_available=True) is None
