import inspect
import math

import pytest
import torch

import vitlab.attention
from vitlab.attention import (
    Normalizer,
    Proportional,
    Relu,
    Sigmoid,
    Softmax,
    SoftmaxWithOne,
    Sparsemax,
    SquaredRelu,
)

ALL = [getattr(vitlab.attention, name) for name in vitlab.attention.__all__]
ALL = [cls for cls in ALL if inspect.isclass(cls) and issubclass(cls, Normalizer) and cls is not Normalizer]
every = pytest.mark.parametrize("cls", ALL)


def masked_example(cls, dtype=torch.float32):
    scores = torch.randn(2, 3, 5, 7, dtype=dtype)
    if cls.is_proportional:
        scores = scores.exp()
    mask = torch.rand(5, 7) > 0.4
    mask[3] = False
    mask[:, 2] = False
    mask[0, 0] = True
    return scores.requires_grad_(), mask


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_keys_get_exactly_zero(cls, dtype):
    scores, mask = masked_example(cls, dtype)
    weights = cls()(scores, mask)
    assert weights.shape == scores.shape
    assert (weights[..., ~mask] == 0).all()
    assert (weights[..., mask] >= 0).all()


@every
def test_a_row_with_nobody_to_look_at_is_zero_and_so_is_its_gradient(cls):
    scores, mask = masked_example(cls)
    weights = cls()(scores, mask)
    assert (weights[:, :, 3] == 0).all()
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[..., ~mask] == 0).all()
    assert (scores.grad[..., mask] != 0).any()


@every
def test_hidden_scores_have_no_influence(cls):
    scores, mask = masked_example(cls)
    for value in (1e4, 0.0):
        changed = scores.detach().masked_fill(~mask, value)
        torch.testing.assert_close(cls()(scores, mask), cls()(changed, mask))


@every
def test_hiding_keys_is_the_same_as_leaving_them_out(cls):
    scores, _ = masked_example(cls)
    kept = torch.tensor([True, False, True, True, False, True, False])
    weights = cls()(scores, kept.expand(5, 7))
    torch.testing.assert_close(weights[..., kept], cls()(scores[..., kept]))


@every
def test_a_mask_of_padding_says_the_same_as_one_for_every_pair(cls):
    scores, _ = masked_example(cls)
    padding = torch.rand(2, 1, 1, 7) > 0.4
    torch.testing.assert_close(cls()(scores, padding), cls()(scores, padding.expand(2, 3, 5, 7)))


@every
def test_gradients_are_those_of_finite_differences(cls):
    torch.manual_seed(0)
    scores = torch.randn(1, 2, 3, 5, dtype=torch.float64)
    scores = (scores.exp() if cls.is_proportional else scores).requires_grad_()
    mask = torch.rand(3, 5) > 0.3
    assert torch.autograd.gradcheck(lambda s: cls()(s, mask), scores, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("cls", [Softmax, Sparsemax, Proportional])
def test_weights_of_a_distribution_sum_to_one_over_the_visible_keys(cls):
    scores, mask = masked_example(cls)
    sums = cls()(scores, mask).sum(-1)
    torch.testing.assert_close(sums, mask.any(-1).float().expand_as(sums))


@pytest.mark.parametrize("cls", [Softmax, Sparsemax, Proportional])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_to_one_over_a_thousand_keys(cls, dtype):
    scores = 0.01 * torch.randn(1, 2, 3, 1024)
    weights = cls()((scores.exp() if cls.is_proportional else scores).to(dtype))
    assert weights.dtype == dtype
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(1, 2, 3), atol=5e-3, rtol=0)


@pytest.mark.parametrize("cls", [Softmax, Sparsemax])
def test_moving_all_scores_alike_changes_nothing(cls):
    scores, mask = masked_example(cls)
    torch.testing.assert_close(cls()(scores, mask), cls()(scores + 37.0, mask), atol=1e-5, rtol=1e-5)


def test_softmax_with_one_is_softmax_beside_a_key_of_score_zero():
    scores, _ = masked_example(SoftmaxWithOne)
    beside = torch.cat([scores, torch.zeros(2, 3, 5, 1)], dim=-1).softmax(-1)[..., :-1]
    torch.testing.assert_close(SoftmaxWithOne()(scores), beside)
    assert SoftmaxWithOne()(torch.full((1, 1, 1, 7), -20.0)).sum() < 1e-6, "it abstains where no key is worth it"
    large = torch.full((1, 1, 1, 7), 1e4)
    torch.testing.assert_close(SoftmaxWithOne()(large).sum(), torch.tensor(1.0))


def test_relu_and_its_square_divide_by_the_number_of_visible_keys():
    scores, mask = masked_example(Relu)
    visible = mask.sum(-1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(Relu()(scores, mask), scores.relu() * mask / visible)
    torch.testing.assert_close(SquaredRelu()(scores, mask), scores.relu() ** 2 * mask / visible)
    torch.testing.assert_close(Relu()(scores), scores.relu() / 7)


def test_sigmoid_decides_each_key_by_itself():
    scores, mask = masked_example(Sigmoid)
    torch.testing.assert_close(Sigmoid()(scores), torch.sigmoid(scores - math.log(7)))
    only_one = Sigmoid()(scores, mask)
    changed = scores.detach().clone()
    changed[..., 0] += 5
    assert torch.equal(Sigmoid()(changed, mask)[..., 1:], only_one[..., 1:])


def test_sparsemax_is_the_nearest_distribution():
    scores = torch.tensor([[0.1, 1.2, 0.9, -3.0], [5.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2]])[None, None]
    expected = torch.tensor([[0.0, 0.65, 0.35, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])[None, None]
    torch.testing.assert_close(Sparsemax()(scores), expected)
    weights, generator = Sparsemax()(torch.randn(1, 1, 1, 7)), torch.Generator().manual_seed(0)
    scores = torch.randn(1, 1, 1, 7, generator=generator)
    nearest = (Sparsemax()(scores) - scores).square().sum()
    others = torch.rand(1000, 7, generator=generator)
    others /= others.sum(-1, keepdim=True)
    assert nearest <= (others - scores[0, 0]).square().sum(-1).min()
    assert weights.min() >= 0


def test_proportional_of_zeros_is_zero():
    assert (Proportional()(torch.zeros(1, 1, 3, 5)) == 0).all()


def test_a_normalizer_must_say_how_it_normalizes_and_is_not_fused_unless_it_says_so():
    with pytest.raises(TypeError, match="abstract"):
        Normalizer()
    assert not Normalizer.fused
