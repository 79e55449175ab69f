import pytest
import torch
from torch import nn

from vitlab.training.throughput import PAIRS, Pair, bench
from vitlab.training.variants import COMPILED, VARIANTS, both_compiled


def is_compiled(model):
    return model._compiled_call_impl is not None


@pytest.mark.parametrize("pair", COMPILED, ids=lambda pair: pair.name)
def test_one_side_is_compiled_and_the_other_the_same_model_without(pair):
    changed, model = pair.make()
    assert is_compiled(changed)
    assert not is_compiled(model)
    for (name, own), (other_name, other) in zip(changed.named_parameters(), model.named_parameters(), strict=True):
        assert name == other_name
        assert torch.equal(own, other)


def test_both_models_of_a_pair_can_be_compiled():
    (pair,) = both_compiled(PAIRS[-1:])
    assert pair.name == f"{PAIRS[-1].name}, both compiled"
    assert all(is_compiled(model) for model in pair.make())
    assert not any(is_compiled(model) for model in PAIRS[-1].make())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")
def test_compiled_models_are_timed_like_others():
    def make():
        return tuple(nn.Sequential(nn.Flatten(), nn.Linear(3 * 13 * 13, 7)) for _ in range(2))

    (row,) = bench(rounds=1, batch_size=5, pairs=both_compiled([Pair("a pair", 13, 1.0, make)]))
    assert row["ratio"] > 0
    assert row["peak_bytes"] > 0


@pytest.mark.parametrize("pair", VARIANTS, ids=lambda pair: pair.name)
def test_a_variant_is_the_same_model_and_says_the_same_to_the_precision_it_computes_in(pair):
    torch.manual_seed(0)
    changed, model = pair.make()
    weights, others = (dict(part.named_parameters()) for part in (changed, model))
    assert [name.removeprefix("model.") for name in weights] == list(others)
    images = torch.randn(2, 3, 32, 32)
    coarse = "bf16" in pair.name
    logits, expected = changed.eval()(images), model.eval()(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.05 if coarse else 1e-4, atol=0.05 if coarse else 1e-4)
    assert not coarse or not torch.equal(logits, expected)
