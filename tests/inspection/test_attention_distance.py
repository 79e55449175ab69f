import math

import pytest
import torch

from vitlab.attention import Grid
from vitlab.inspection import attention_entropy, attention_mass, head_similarity, mean_attention_distance

GRID, PATCH = Grid(3, 5, 2), 4


def weights_of(patches, batch=2, heads=7):
    """Weights between patches, beside prefix tokens that take half of everybody's attention."""
    weights = torch.zeros(GRID.num_tokens, GRID.num_tokens)
    weights[2:, 2:] = 0.5 * patches
    weights[:, 0] += 1 - weights.sum(-1)
    return weights.expand(batch, heads, -1, -1)


def test_looking_at_oneself_is_looking_zero_pixels_far():
    assert (mean_attention_distance(weights_of(torch.eye(15)), GRID, PATCH) == 0).all()


def test_one_hop_to_the_right_is_one_patch_far():
    hop = torch.eye(15).roll(1, dims=1)
    hop[4::5] = 0  # no patch to the right of the last column
    hop[range(4, 15, 5), range(3, 15, 5)] = 1  # it looks left
    distances = mean_attention_distance(weights_of(hop), GRID, PATCH)
    torch.testing.assert_close(distances, torch.full((7,), 4.0))


def test_uniform_attention_is_the_mean_distance_between_patches():
    places = [(row, column) for row in range(3) for column in range(5)]
    expected = sum(PATCH * math.dist(a, b) for a in places for b in places) / 15**2
    distances = mean_attention_distance(weights_of(torch.full((15, 15), 1 / 15)), GRID, PATCH)
    assert distances.tolist() == pytest.approx([expected] * 7)


def test_each_head_has_its_own_distance():
    weights = torch.stack([weights_of(torch.eye(15))[0, 0], weights_of(torch.full((15, 15), 1 / 15))[0, 0]])[None]
    near, far = mean_attention_distance(weights, GRID, PATCH)
    assert near == 0
    assert far > 4


def test_entropy_is_zero_for_one_key_and_the_logarithm_of_their_number_for_all():
    assert (attention_entropy(torch.eye(11).expand(2, 3, -1, -1)) == 0).all()
    uniform = attention_entropy(torch.full((2, 3, 5, 11), 1 / 11))
    torch.testing.assert_close(uniform, torch.full((3,), math.log(11)))


def test_heads_are_alike_when_they_look_at_the_same_keys():
    eye, hop = torch.eye(11), torch.eye(11).roll(1, dims=1)
    similarity = head_similarity(torch.stack([eye, hop, eye])[None].expand(2, -1, -1, -1))
    assert similarity.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_attention_mass_is_what_goes_where_beside_chance():
    weights = torch.full((2, 3, 11, 11), 1 / 11)
    queries, keys = torch.zeros(2, 11, dtype=torch.bool), torch.zeros(2, 11, dtype=torch.bool)
    queries[:, 0], keys[:, 4:7] = True, True
    share, chance = attention_mass(weights, queries, keys)
    torch.testing.assert_close(share, torch.full((3,), 3 / 11))
    assert chance == pytest.approx(3 / 11)
    weights = weights.clone()
    weights[:, 1, 0] = torch.eye(11)[4]
    share, _ = attention_mass(weights, queries, keys)
    assert share.tolist() == pytest.approx([3 / 11, 1, 3 / 11])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 17\) are not between the 17 tokens.*capture all queries"):
        mean_attention_distance(torch.rand(1, 1, 3, 17), GRID, PATCH)
    with pytest.raises(ValueError, match="at least one token that looks"):
        attention_mass(torch.rand(1, 1, 3, 3), torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool))
