"""`scripts/scaling_estimate` multiplies as by hand, and its table holds what it measured."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest

from vitlab.models import ViT


@pytest.fixture
def estimate(root):
    loader = SourceFileLoader("scaling_estimate", str(root / "scripts" / "scaling_estimate"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_steps_and_hours_are_those_of_a_calculation_by_hand(estimate):
    # 8,200 images are two whole batches of 4,096; five epochs are 10 steps of 4,096 images: 40 s at 1,024 a second.
    assert estimate.steps_of(8200, 5) == 10
    assert estimate.hours_of(8200, 5, rate=1024) == pytest.approx(40 / 3600)
    # Fewer images than a batch are one batch of all.
    assert estimate.hours_of(1024, 3, rate=1024) == pytest.approx(3 / 3600)


def test_a_rate_counts_two_operations_a_multiply_add_and_three_forward_passes(estimate):
    assert estimate.images_per_second(macs=1e9, flops_per_second=6e12, share=0.5) == pytest.approx(500)


def test_sizes_are_those_of_the_papers(estimate):
    rows = {cells[0]: cells for cells in table(estimate.size_table())}
    assert rows["ImageNet-1k"][1:] == ["1,281,167", "300", "93,600", "0.148", "0.193"]  # 312 batches; 150,528 bytes
    assert rows["JFT-300M"][1:] == ["303,000,000", "7", "517,818", "not published", "45.6"]


def test_the_tables_follow_from_what_was_measured(estimate, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path))  # the script sets it, and it must not stay
    monkeypatch.setattr(estimate, "IMAGE_SIZE", 16)
    monkeypatch.setattr(estimate, "MODELS", {"tiny": lambda: ViT(16, 10, patch_size=4, size="micro")})
    monkeypatch.setattr(estimate, "arithmetic_rate", lambda device, rounds: 1e12)
    out = tmp_path / "tables.md"
    options = ["--batch", "2", "--rounds", "1", "--jpegs", "6", "--assume", "600", "0.5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["scaling_estimate", *options])
    estimate.main()
    assert capsys.readouterr().out == out.read_text()
    _, trainings, hours, inputs, cores = (table(part.splitlines()) for part in out.read_text().split("\n\n|"))
    name, macs, rate, share = trainings[0]
    assert name == "tiny"
    assert float(share) == pytest.approx(value(rate) * 6 * value(macs) * 1e9 / 1e12, abs=0.006)
    assumed = 0.5 * 600e12 / (6 * value(macs) * 1e9)
    once, tuned = next(cells[2:] for cells in hours if cells[:2] == ["assumed: 600 TFLOP/s x 0.5", "JFT-300M"])
    assert value(once) == pytest.approx(517_818 * 4096 / assumed / 3600, rel=0.01)
    assert value(tuned) == pytest.approx(9 * value(once), rel=0.01)
    milliseconds = [value(cells[1]) for cells in inputs]
    device, _, shown, *needed = cores[1]
    assert device == "assumed: 600 TFLOP/s x 0.5"
    assert value(shown) == pytest.approx(assumed, rel=0.01)
    for cost, number in zip(milliseconds, needed[::2], strict=True):
        assert value(number) == pytest.approx(assumed * cost / 1e3, rel=0.01, abs=assumed * 0.0005 / 1e3)
    assert value(needed[3]) == pytest.approx(assumed * 150_528 / 1e6, rel=0.01)


def table(lines):
    """Return the cells of a table's rows, without its head."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if "|" in line]
    return rows[2:]


def value(cell):
    return float(cell.replace(",", ""))
