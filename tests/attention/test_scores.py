import math

import pytest
import torch

from vitlab.attention import ScaledDotProduct, Score


def test_scaled_dot_product_is_its_formula_for_every_pair():
    queries, keys = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7)
    scores = ScaledDotProduct()(queries, keys)
    assert scores.shape == (2, 3, 5, 11)
    for batch, head, query, key in [(0, 0, 0, 0), (1, 2, 4, 10), (0, 1, 3, 7)]:
        expected = queries[batch, head, query] @ keys[batch, head, key] / math.sqrt(7)
        torch.testing.assert_close(scores[batch, head, query, key], expected)


def test_scaled_dot_product_equals_its_rewriting_for_the_fused_kernel():
    queries, keys = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7)
    score = ScaledDotProduct()
    rewritten_queries, rewritten_keys, scale = score.as_dot_product(queries, keys)
    torch.testing.assert_close(score(queries, keys), scale * rewritten_queries @ rewritten_keys.transpose(-2, -1))


def test_a_score_must_say_how_it_scores_and_is_not_fused_unless_it_says_so():
    with pytest.raises(TypeError, match="abstract"):
        Score()

    class Mine(Score):
        def forward(self, queries, keys):
            return queries @ keys.transpose(-2, -1)

    assert Mine().as_dot_product(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)) is None
