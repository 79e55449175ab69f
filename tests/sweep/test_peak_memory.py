"""A trial's peak is its own, and looking for garbage between trials is quick."""

import gc
import sys
import time
import weakref

import pytest
import torch

from vitlab.sweep.in_process import InProcessWorker
from vitlab.sweep.peak_memory import look_at_libraries_again, measure_peak_memory, reset_peak_memory

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def leave_nothing_frozen():
    yield
    look_at_libraries_again()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget the peak of a process")
def test_the_peak_of_an_earlier_trial_is_forgotten():
    reset_peak_memory()
    before = measure_peak_memory(CPU)
    large = torch.ones(50_000_000)  # 200 MB
    assert measure_peak_memory(CPU) > before + 150e6
    del large
    reset_peak_memory()
    assert measure_peak_memory(CPU) < before + 100e6


def test_models_in_circles_are_freed_in_the_first_trial_and_in_later_ones():
    for _ in range(3):
        model = in_a_circle()
        gone = weakref.ref(model)
        del model
        reset_peak_memory()
        assert gone() is None


def test_the_libraries_are_not_looked_through_again():
    whole = seconds(gc.collect)
    reset_peak_memory()
    assert gc.get_freeze_count() > 100_000  # torch alone is more
    assert seconds(gc.collect) < whole / 3


def test_what_was_there_before_trials_in_this_process_can_be_freed_after_them():
    model = in_a_circle()
    gone = weakref.ref(model)
    worker = InProcessWorker()
    reset_peak_memory()  # as each trial does
    del model
    gc.collect()
    assert gone() is not None
    worker.close()
    gc.collect()
    assert gone() is None


def in_a_circle():
    model = torch.nn.Linear(2, 2)
    model.itself = [model]
    return model


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
