import pytest
import torch

from vitlab.training.variants import VARIANTS


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
