from functools import partial

import pytest
import torch

from vitlab.attention import Grid
from vitlab.inspection import capture, class_relevance, class_token_map, gradient_rollout, rollout, token_map
from vitlab.models import ClassifierHead, ViT, ViTShape

GRID, BATCH, HEADS = Grid(3, 5, 2), 2, 7
TOKENS = GRID.num_tokens


def random_weights():
    return torch.rand(BATCH, HEADS, TOKENS, TOKENS).softmax(-1)


def repeated(matrix, layers=3):
    return [matrix.expand(BATCH, HEADS, -1, -1)] * layers


def shift():
    """One hop: token i looks at token i + 1, the last at the first."""
    return torch.eye(TOKENS).roll(1, dims=1)


def test_a_map_lays_a_row_out_as_the_image():
    weights = random_weights()
    seen = token_map(weights, GRID, query=6)
    assert seen.shape == (BATCH, HEADS, 3, 5)
    assert seen[1, 4, 2, 3] == weights[1, 4, 6, 2 + 2 * 5 + 3]
    assert torch.equal(class_token_map(weights, GRID), token_map(weights, GRID, 0))


def test_rollout_of_identity_is_identity_and_of_uniform_attention_alone_is_uniform():
    eye, uniform = torch.eye(TOKENS), torch.full((TOKENS, TOKENS), 1 / TOKENS)
    torch.testing.assert_close(rollout(repeated(eye)), eye.expand(BATCH, -1, -1))
    torch.testing.assert_close(rollout(repeated(uniform), residual=0), uniform.expand(BATCH, -1, -1))


def test_rollout_of_one_hop_a_layer_is_binomial():
    hops = rollout(repeated(shift()), residual=0.5)[0, 0]
    assert hops[:5].tolist() == pytest.approx([0.125, 0.375, 0.375, 0.125, 0])
    straight = rollout(repeated(shift()), residual=0)
    assert torch.equal(straight, torch.linalg.matrix_power(shift(), 3).expand(BATCH, -1, -1))


def test_rollout_of_two_layers_is_the_product_with_the_later_one_on_the_left():
    first, second = random_weights(), random_weights()
    eye = torch.eye(TOKENS)
    expected = (0.7 * second.mean(1) + 0.3 * eye) @ (0.7 * first.mean(1) + 0.3 * eye)
    torch.testing.assert_close(rollout([first, second], residual=0.3), expected)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard_ratio", [0.0, 0.3, 0.9])
def test_rows_of_rollout_sum_to_one(fusion, discard_ratio):
    rolled = rollout([random_weights(), random_weights()], fusion, discard_ratio)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(BATCH, TOKENS))


def test_discarding_takes_the_smallest_of_each_row_and_sample():
    weights = random_weights()
    kept = rollout([weights], discard_ratio=0.5, residual=0)
    mean = weights.mean(1)
    for sample, row in [(0, 0), (1, 7), (1, 16)]:
        smallest = mean[sample, row].argsort()[: int(0.5 * TOKENS)]
        assert (kept[sample, row, smallest] == 0).all()
        assert (kept[sample, row] > 0).sum() == TOKENS - len(smallest)


def test_gradient_rollout_is_its_formula():
    weights, gradients = (
        [random_weights() for _ in range(2)],
        [torch.randn(BATCH, HEADS, TOKENS, TOKENS) for _ in range(2)],
    )
    first, second = (
        (weight * gradient).clamp(min=0).mean(1) for weight, gradient in zip(weights, gradients, strict=True)
    )
    eye = torch.eye(TOKENS)
    torch.testing.assert_close(gradient_rollout(weights, gradients), (eye + second) @ (eye + first))


def test_what_lowers_the_score_does_not_count():
    weights = [random_weights()]
    rolled = gradient_rollout(weights, [-torch.ones_like(weights[0])])
    assert torch.equal(rolled, torch.eye(TOKENS).expand(BATCH, -1, -1))


@pytest.mark.parametrize("pooling", ["class_token", "mean"])
def test_class_relevance_is_gradient_rollout_at_the_class_token_or_averaged(pooling):
    shape = ViTShape(dim=20, depth=3, num_heads=5, mlp_dim=13)
    model = ViT((12, 20), 7, 2, 4, shape, head=partial(ClassifierHead, pooling=pooling)).eval()
    model.requires_grad_(False)
    images, targets = torch.randn(3, 2, 12, 20), torch.tensor([1, 0, 6])
    relevance, grid = class_relevance(model, images, targets)
    assert relevance.shape == (3, 3, 5)
    assert grid == Grid(3, 5, 1 if pooling == "class_token" else 0)
    with capture(model, differentiable=True) as record:
        score = model(images.requires_grad_())[torch.arange(3), targets].sum()
    rolled = gradient_rollout(record.weights, torch.autograd.grad(score, record.weights))
    rows = rolled[:, 0, 1:] if pooling == "class_token" else rolled.mean(1)
    torch.testing.assert_close(relevance, rows.reshape(3, 3, 5))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rollout([]), "got none"),
        (lambda: rollout([random_weights()[:, :, :3]]), r"all queries captured; got \(2, 7, 3, 17\)"),
        (lambda: rollout([random_weights()], "median"), "unknown head_fusion 'median'; use one of mean, max, min"),
        (lambda: rollout([random_weights()], discard_ratio=1.0), "got 1.0 and 0.5"),
        (lambda: token_map(random_weights(), GRID, 17), "query 17 is not there; use 0 to 16"),
        (lambda: token_map(random_weights(), Grid(3, 5), 0), "weights over 17 tokens do not fill"),
        (lambda: class_token_map(torch.rand(1, 1, 15, 15), Grid(3, 5)), "no class token"),
        (lambda: gradient_rollout([random_weights()], []), "must have the shape of its weights"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
