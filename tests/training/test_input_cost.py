import pytest
import torch

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


def test_a_row_for_each_pipeline_with_torchvisions_as_the_measure():
    rows = input_cost.bench_input(rounds=2, num_threads=1, batch_size=5, cases=input_cost.CASES[:1])
    assert rows[0]["ratio"] == 1
    assert len(rows) == 3
    assert all(row["images_per_second"] > 0 for row in rows)
    table = input_cost.format_input_table(rows).splitlines()
    assert len({line.count("|") for line in table}) == 1


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="must be 1 or more, got 0 and 128"):
        input_cost.bench_input(rounds=0)
