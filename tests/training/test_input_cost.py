import pytest
import torch

from vitlab.data import Augmentation
from vitlab.training import input_cost


@pytest.mark.parametrize("case", input_cost.CASES, ids=lambda case: case.name)
def test_every_pipeline_gives_normalized_images_that_change(case):
    for name, batch in input_cost.pipelines(case, "cpu", 7, 32, 2).items():
        torch.manual_seed(0)
        first, second = batch(), batch()
        assert first.shape == second.shape == (7, 3, 32, 32), name
        assert first.dtype == torch.float32
        assert not torch.equal(first, second)
        assert -3 < first.mean() < 3


def test_a_row_for_each_pipeline_with_torchvisions_and_the_hosts_as_the_measure():
    rows = input_cost.bench_input(rounds=2, num_threads=1, batch_size=5, cases=input_cost.CASES[:1])
    assert [row["pipeline"] for row in rows] == list(input_cost.pipelines(input_cost.CASES[0], "cpu", 5, 32, 1))
    assert rows[0]["ratio"] == rows[2]["host_ratio"] == 1
    assert all(row["images_per_second"] > 0 for row in rows)
    table = input_cost.format_input_table(rows).splitlines()
    assert len({line.count("|") for line in table}) == 1


def test_ratios_are_medians_of_the_rounds_ratios(monkeypatch):
    seconds = [[8.0, 6.0, 90.0], [1.0, 2.0, 10.0], [4.0, 2.0, 30.0]]  # torchvision, device, host
    monkeypatch.setattr(input_cost, "timed_in_turns", lambda calls, rounds, device: seconds)
    rows = input_cost.bench_input(rounds=3, batch_size=5, cases=input_cost.CASES[:1])
    assert [row["ratio"] for row in rows] == [1, 8, 3]
    assert [row["host_ratio"] for row in rows] == [1 / 3, 3, 1]
    assert [row["images_per_second"] for row in rows] == [5 / 8, 2.5, 1.25]


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="must be 1 or more, got 0 and 128"):
        input_cost.bench_input(rounds=0)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"crop_padding": 4}, ["RandomCrop"]),
        ({"random_resized_crop_scale": 0.3, "horizontal_flip": True}, ["RandomResizedCrop", "RandomHorizontalFlip"]),
        ({"color_jitter": 0.4}, ["ColorJitter"]),
    ],
)
def test_torchvision_makes_the_changes_that_the_case_names(settings, names):
    case = input_cost.InputCase("", Augmentation(**settings))
    steps = input_cost._transform(case, 32).transforms
    assert [type(step).__name__ for step in steps] == [*names, "ToDtype", "Normalize"]
    for step in steps[: len(names)]:
        if "color_jitter" in settings:
            assert step.brightness == step.contrast == step.saturation == (0.6, 1.4)
            assert step.hue == (-0.1, 0.1)
        if "random_resized_crop_scale" in settings and names.index(type(step).__name__) == 0:
            assert (step.scale, step.ratio, step.antialias) == ((0.3, 1.0), (3 / 4, 4 / 3), False)
