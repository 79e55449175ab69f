import math

import pytest
import torch

from vitlab.attention import Additive, Cosine, KernelFeatures, ScaledDotProduct, Score

HEADS, HEAD_DIM = 3, 7
EXAMPLES = [(0, 0, 0, 0), (1, 2, 4, 10), (0, 1, 3, 7)]


def queries_and_keys():
    return torch.randn(2, HEADS, 5, HEAD_DIM), torch.randn(2, HEADS, 11, HEAD_DIM)


def made():
    return [ScaledDotProduct(), Cosine(HEADS), KernelFeatures(), KernelFeatures(feature_map="relu")]


def test_scaled_dot_product_is_its_formula_for_every_pair():
    queries, keys = queries_and_keys()
    scores = ScaledDotProduct()(queries, keys)
    assert scores.shape == (2, HEADS, 5, 11)
    for batch, head, query, key in EXAMPLES:
        expected = queries[batch, head, query] @ keys[batch, head, key] / math.sqrt(7)
        torch.testing.assert_close(scores[batch, head, query, key], expected)


def test_additive_is_its_formula_for_every_pair():
    score, (queries, keys) = Additive(HEADS, HEAD_DIM, hidden_dim=13), queries_and_keys()
    scores = score(queries, keys)
    assert scores.shape == (2, HEADS, 5, 11)
    for batch, head, query, key in EXAMPLES:
        hidden = (
            queries[batch, head, query] @ score.query_weight[head] + keys[batch, head, key] @ score.key_weight[head]
        )
        torch.testing.assert_close(scores[batch, head, query, key], score.vector[head] @ hidden.tanh())


def test_cosine_is_the_angle_over_the_temperature_of_the_head():
    score, (queries, keys) = Cosine(HEADS), queries_and_keys()
    score.log_scale.data = torch.tensor([0.0, 1.0, 50.0])
    scores = score(queries, keys)
    for (batch, head, query, key), temperature in zip(EXAMPLES, (1.0, 0.01, math.exp(-1)), strict=True):
        angle = torch.cosine_similarity(queries[batch, head, query], keys[batch, head, key], dim=0)
        torch.testing.assert_close(scores[batch, head, query, key], angle / temperature, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(Cosine(HEADS)(100 * queries, keys), Cosine(HEADS)(queries, keys))


@pytest.mark.parametrize(
    ("feature_map", "phi"), [("elu", lambda x: torch.where(x > 0, x + 1, x.exp())), ("relu", torch.relu)]
)
def test_kernel_features_are_their_formula_and_never_negative(feature_map, phi):
    score, (queries, keys) = KernelFeatures(feature_map=feature_map), queries_and_keys()
    torch.testing.assert_close(score(queries, keys), phi(queries) @ phi(keys).transpose(-2, -1))
    assert (score(queries, keys) >= 0).all()
    assert score.is_nonnegative


@pytest.mark.parametrize("score", made())
def test_a_score_equals_its_rewriting_for_the_fused_kernel(score):
    queries, keys = queries_and_keys()
    rewritten_queries, rewritten_keys, scale = score.as_dot_product(queries, keys)
    torch.testing.assert_close(score(queries, keys), scale * rewritten_queries @ rewritten_keys.transpose(-2, -1))


@pytest.mark.parametrize("score", [*made(), Additive(HEADS, HEAD_DIM)])
def test_tiles_between_heads_and_tokens_change_nothing(score):
    queries, keys = torch.randn(2, HEADS, 13, 5, HEAD_DIM), torch.randn(2, HEADS, 13, 11, HEAD_DIM)
    scores = score(queries, keys)
    for tile in (0, 12):
        torch.testing.assert_close(scores[:, :, tile], score(queries[:, :, tile], keys[:, :, tile]))


@pytest.mark.parametrize("score", [Additive(HEADS, HEAD_DIM), Cosine(HEADS)])
def test_every_weight_of_a_score_learns(score):
    score(*queries_and_keys()).square().sum().backward()
    assert all((parameter.grad != 0).all() for parameter in score.parameters())


def test_a_score_must_say_how_it_scores_and_is_not_fused_unless_it_says_so():
    with pytest.raises(TypeError, match="abstract"):
        Score()

    class Mine(Score):
        def forward(self, queries, keys):
            return queries @ keys.transpose(-2, -1)

    assert Mine().as_dot_product(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)) is None
    assert Mine().features(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Additive(HEADS, HEAD_DIM, hidden_dim=0), "hidden_dim must be 1 or more, got 0"),
        (lambda: Cosine(HEADS, temperature=0.001), "temperature must be 0.01 or more, got 0.001"),
        (lambda: KernelFeatures(feature_map="exp"), "unknown feature_map 'exp'; use one of elu, relu"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
