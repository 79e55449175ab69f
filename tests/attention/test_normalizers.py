import pytest
import torch

from vitlab.attention import Normalizer, Softmax


def masked_example(dtype=torch.float32):
    scores = torch.randn(2, 3, 5, 7, dtype=dtype, requires_grad=True)
    mask = torch.rand(5, 7) > 0.4
    mask[3] = False
    mask[:, 2] = False
    mask[0, 0] = True
    return scores, mask


def test_softmax_weights_are_positive_and_sum_to_one():
    weights = Softmax()(torch.randn(2, 3, 5, 7))
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softmax_gives_zero_to_hidden_keys_and_one_in_total_to_visible_ones(dtype):
    scores, mask = masked_example(dtype)
    weights = Softmax()(scores, mask)
    assert (weights[..., ~mask] == 0).all()
    sums = weights.float().sum(-1)
    torch.testing.assert_close(sums, mask.any(-1).float().expand_as(sums), atol=2e-2, rtol=0)


def test_softmax_of_a_row_with_nobody_to_look_at_is_zero_and_so_is_its_gradient():
    scores, mask = masked_example()
    weights = Softmax()(scores, mask)
    assert (weights[:, :, 3] == 0).all()
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[..., ~mask] == 0).all()
    assert (scores.grad[..., mask] != 0).any()


def test_hidden_scores_have_no_influence_on_the_weights():
    scores, mask = masked_example()
    changed = scores.detach().masked_fill(~mask, 1e4)
    torch.testing.assert_close(Softmax()(scores, mask), Softmax()(changed, mask))


def test_a_normalizer_must_say_how_it_normalizes_and_is_not_fused_unless_it_says_so():
    with pytest.raises(TypeError, match="abstract"):
        Normalizer()
    assert not Normalizer.fused
