import pytest
import torch

from vitlab.training import sequence_cost
from vitlab.training.sequence_cost import RECURRENT, bench_sequence, format_sequence_table, sequence_models


@pytest.mark.parametrize("num_tokens", [9, 64, 121])
@pytest.mark.parametrize("recurrent", RECURRENT, ids=lambda recurrent: recurrent.name)
def test_both_models_read_the_same_number_of_tokens_at_equal_width_and_depth(num_tokens, recurrent):
    vit, rnn, image_size = sequence_models(num_tokens, recurrent, dim=32, depth=3)
    images = torch.randn(2, 3, image_size, image_size)
    assert vit.tokenizer(images).shape == rnn.tokenizer(images).shape == (2, num_tokens, 32)
    assert rnn.forward_features(images).shape == (2, num_tokens, 32)
    assert len(vit.blocks) == rnn.layers.num_layers == 3


def test_the_lstm_has_about_as_many_parameters_as_the_vit_and_the_others_no_more():
    counts = {}
    for recurrent in RECURRENT:
        *models, _ = sequence_models(1024, recurrent, dim=64, depth=2)
        counts[recurrent.name], vit = (sum(p.numel() for p in model.parameters()) for model in reversed(models))
    assert counts["LSTM"] == pytest.approx(vit, rel=0.02)
    assert max(counts.values()) == counts["LSTM"]


def test_it_gives_a_row_a_net_and_length_keeps_the_threads_and_prints_as_a_table():
    threads = torch.get_num_threads()
    rows = bench_sequence(rounds=1, batch_size=3, dim=32, depth=1, num_tokens=(4, 9), num_threads=threads + 1)
    assert torch.get_num_threads() == threads
    names = [recurrent.name for recurrent in RECURRENT]
    assert [(row["num_tokens"], row["name"]) for row in rows] == [(count, name) for count in (4, 9) for name in names]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["vit"] / row["rnn"])  # one round: the medians are the measurements
    table = format_sequence_table(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1


def test_the_ratio_says_how_much_faster_the_vit_is(monkeypatch):
    def compare(ours, theirs, image_size, batch_size, rounds, device):
        assert type(ours).__name__ == "ViT"
        assert type(theirs).__name__ == "RNN"
        return {"ours": 30.0, "theirs": 10.0, "ratio": 3.0, "ratio_low": 2.5, "ratio_high": 3.5}

    monkeypatch.setattr(sequence_cost, "compare_throughput", compare)
    first = bench_sequence(num_tokens=(4,), dim=32)[0]
    assert (first["vit"], first["rnn"], first["ratio"], first["ratio_low"]) == (30.0, 10.0, 3.0, 2.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": (60,)}, "num_tokens must be a square number such as 64, 256 or 1024, got 60"),
        ({"dim": 48}, "dim must be a multiple of 32"),
        ({"rounds": 0}, "must be 1 or more, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bench_sequence(**{"num_tokens": (4,), "dim": 32} | options)
