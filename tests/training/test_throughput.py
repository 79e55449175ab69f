import pytest
import torch
from torch import nn

from vitlab.models import ResNet, ViT
from vitlab.training import throughput


class Slow(nn.Module):
    """A linear classifier that computes its answer many times over."""

    def __init__(self, repeats):
        super().__init__()
        self.repeats = repeats
        self.linear = nn.Linear(3 * 31 * 31, 7)

    def forward(self, images):
        return torch.stack([self.linear(images.flatten(1)) for _ in range(self.repeats)]).mean(0)


def test_the_ratio_is_above_one_for_the_faster_model_whichever_comes_first():
    # Two hundred times the work: whatever else the machine does, the order is the same.
    faster_first = throughput.compare_throughput(Slow(1), Slow(200), image_size=31, batch_size=8, rounds=5)
    assert faster_first["ratio"] > 1
    assert faster_first["ours"] > faster_first["theirs"]
    assert faster_first["ratio_low"] <= faster_first["ratio"] <= faster_first["ratio_high"]
    assert throughput.compare_throughput(Slow(200), Slow(1), image_size=31, batch_size=8, rounds=5)["ratio"] < 1


def test_a_step_trains_the_model():
    model = Slow(1)
    before = model.linear.weight.clone()
    throughput.compare_throughput(model, Slow(1), image_size=31, batch_size=2, rounds=1)
    assert not torch.equal(model.linear.weight, before)


def test_bench_gives_a_row_a_pair_keeps_the_threads_and_prints_as_a_table(monkeypatch):
    pair = throughput.Pair("a pair", 31, 0.5, lambda: (Slow(1), Slow(1)))
    monkeypatch.setattr(throughput, "PAIRS", (pair, pair))
    threads = torch.get_num_threads()
    rows = throughput.bench(rounds=1, batch_size=6, num_threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert [(row["name"], row["image_size"], row["batch_size"]) for row in rows] == [("a pair", 31, 3)] * 2
    assert all(row["forward_ratio"] > 0 for row in rows)
    assert all(row["peak_bytes"] == row["their_peak_bytes"] > 0 for row in rows)  # the same model twice
    assert all(row["share_of_limit"] > 0 for row in rows)
    table = throughput.format_table(rows).splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("pair", throughput.PAIRS, ids=lambda pair: pair.name)
def test_the_two_models_of_a_pair_have_equally_many_parameters(pair):
    ours, theirs = pair.make()
    assert isinstance(ours, ViT | ResNet)
    assert pair.image_size in (32, 224)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="must be 1 or more, got 0 and 8"):
        throughput.compare_throughput(Slow(1), Slow(1), image_size=31, batch_size=8, rounds=0)
