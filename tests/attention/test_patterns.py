import pytest
import torch

from vitlab.attention import All, Causal, GraphEdges, Grid, Pattern, SelfAttention, Window2D

GRID = Grid(3, 5, 2)


def test_all_hides_nothing():
    assert All().mask(Grid(3, 5)) is None


def test_a_causal_token_sees_itself_and_what_comes_before():
    patches = Causal().mask(Grid(3, 5))
    assert torch.equal(patches, torch.ones(15, 15, dtype=torch.bool).tril())
    mask = Causal().mask(GRID)
    assert mask[:, :2].all()
    assert not mask[:2, 2:].any()


@pytest.mark.parametrize("plain", [False, True])
def test_causal_token_ignores_the_future(plain):
    attention = SelfAttention(21, 3, pattern=Causal())
    attention._force_plain = plain
    tokens = torch.randn(1, GRID.num_tokens, 21, requires_grad=True)
    outputs = attention(tokens, GRID)
    for looker in range(2, GRID.num_tokens):
        (gradient,) = torch.autograd.grad(outputs[0, looker].sum(), tokens, retain_graph=True)
        assert (gradient[0, looker + 1 :] == 0).all()
        assert (gradient[0, : looker + 1] != 0).any(-1).all()


def test_and_or_are_those_of_the_masks():
    window, causal = Window2D(3), Causal()
    assert torch.equal((window & causal).mask(GRID), window.mask(GRID) & causal.mask(GRID))
    assert torch.equal((window | causal).mask(GRID), window.mask(GRID) | causal.mask(GRID))
    assert (All() | window).mask(GRID) is None
    assert torch.equal((All() & window).mask(GRID), window.mask(GRID))
    assert (All() & All()).mask(GRID) is None


def test_what_is_said_of_places_agrees_with_the_mask_for_combined_patterns():
    places = GRID.coordinates()
    for pattern in (Window2D(3) & Causal(), Window2D(3) | Causal(), All() & Window2D(3), All() | Window2D(3)):
        mask = pattern.mask(GRID)
        said = pattern.may_look(places[:, None], places[None], GRID).expand(15, 15)
        assert torch.equal(said, torch.ones(15, 15, dtype=torch.bool) if mask is None else mask[2:, 2:])


def test_combined_patterns_are_tiled_where_that_holds_all_they_see():
    grid, narrow, wide = Grid(30, 31), Window2D(3), Window2D(5)
    assert (narrow & wide).tiling(grid) == narrow.tiling(grid)
    assert (narrow | wide).tiling(grid) == wide.tiling(grid)
    assert (narrow & Causal()).tiling(grid) == narrow.tiling(grid)
    assert (narrow | Causal()).tiling(grid) is None
    assert (narrow & GraphEdges(930, [])).tiling(grid) is None
    assert (narrow & (GraphEdges(930, []) | wide)).tiling(grid) is None
    assert ((narrow & Causal()) & wide).tiling(grid) == narrow.tiling(grid)


def test_a_pattern_must_say_who_may_look():
    with pytest.raises(TypeError, match="abstract"):
        Pattern()
