"""What holds for every position; the formulas are tested in the files of each kind."""

import inspect
from functools import partial

import jsonargparse
import pytest
import torch
from torch import nn

import vitlab.attention
from vitlab.attention import (
    AbsolutePosition,
    Grid,
    LearnedPosition,
    NoPosition,
    Position,
    RelativePosition,
    RotaryPosition,
    SelfAttention,
    SinCos2D,
)
from vitlab.models import ViT

HEADS = 7
DIM = 28


class OnScores(Position):
    def on_scores(self, grid):
        return torch.zeros(grid.num_tokens, grid.num_tokens)


class OnQueriesAndKeys(Position):
    def on_queries_and_keys(self, queries, keys, grid):
        return queries, keys


def test_no_position_leaves_everything_as_it_is():
    position, grid = NoPosition(DIM, Grid(3, 5)), Grid(3, 5)
    tokens, queries, keys = torch.randn(2, 15, DIM), torch.randn(2, 7, 15, 4), torch.randn(2, 7, 15, 4)
    assert position.on_tokens(tokens, grid) is tokens
    assert position.on_queries_and_keys(queries, keys, grid) == (queries, keys)
    assert position.on_scores(grid) is None


def test_a_position_knows_whether_it_belongs_before_the_first_block():
    grid = Grid(3, 5)
    assert all(p.acts_on_tokens_only for p in (NoPosition(), LearnedPosition(DIM, grid), SinCos2D(DIM, grid)))
    assert not OnScores().acts_on_tokens_only
    assert not OnQueriesAndKeys().acts_on_tokens_only


def every_position():
    """All positions that the package offers, found and not listed, so that a new one is tested from its first day."""
    offered = [getattr(vitlab.attention, name) for name in vitlab.attention.__all__]
    classes = [part for part in offered if inspect.isclass(part) and issubclass(part, Position)]
    return [part for part in classes if part is not Position and not inspect.isabstract(part)]


def is_made_with_heads(position):
    return "num_heads" in inspect.signature(position).parameters


def make(position, grid):
    """Make a position for a layer of this file, told of the grid as a model tells it."""
    made = position(HEADS, DIM // HEADS) if is_made_with_heads(position) else position(DIM, grid)
    made.set_grid(grid)
    return made


PLACING = [part for part in every_position() if part is not NoPosition]
every = pytest.mark.parametrize("position", every_position())
each_that_places = pytest.mark.parametrize("position", PLACING)
each_on_tokens = pytest.mark.parametrize("position", [part for part in PLACING if not is_made_with_heads(part)])


def test_all_positions_are_found():
    assert len(every_position()) == 14


@every
@pytest.mark.parametrize("grid", [Grid(3, 5, 2), Grid(3, 5), Grid(5, 2, 2), Grid(2, 11, 2), Grid(1, 1, 1)], ids=str)
def test_attention_with_any_position_on_any_grid_is_finite_and_learns(position, grid):
    attention = SelfAttention(DIM, HEADS, position=make(position, Grid(3, 5, grid.num_prefix_tokens)))
    outputs = attention(torch.randn(2, grid.num_tokens, DIM), grid)
    assert outputs.shape == (2, grid.num_tokens, DIM)
    assert torch.isfinite(outputs).all()
    outputs.square().sum().backward()
    # A single patch is at the start of ContinuousDynamics: its velocity does not matter, and gets no gradient.
    assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in attention.parameters())


@every
def test_every_learned_number_matters(position):
    grid = Grid(3, 5, 2)
    attention = SelfAttention(DIM, HEADS, position=make(position, grid)).double()
    attention(torch.randn(2, grid.num_tokens, DIM, dtype=torch.float64), grid).square().sum().backward()
    for name, weight in attention.position.named_parameters():
        assert (weight.grad != 0).all(), name


@each_that_places
def test_with_a_position_the_order_of_patches_matters(position):
    grid = Grid(3, 5, 2)
    attention, tokens = SelfAttention(DIM, HEADS, position=make(position, grid)), torch.randn(2, grid.num_tokens, DIM)
    for of_position in attention.position.parameters():
        nn.init.normal_(of_position)  # learned vectors start too small to be told from rounding
    order = torch.cat([torch.arange(2), 2 + torch.randperm(15, generator=torch.Generator().manual_seed(1))])
    moved, still = attention(tokens[:, order], grid), attention(tokens, grid)[:, order]
    assert not torch.isclose(moved, still, atol=1e-5).all(-1)[:, 2:].any()


def test_without_a_position_the_order_of_patches_does_not_matter():
    grid, order = Grid(3, 5, 2), torch.cat([torch.arange(2), 2 + torch.randperm(15)])
    attention, tokens = SelfAttention(DIM, HEADS, position=NoPosition()), torch.randn(2, grid.num_tokens, DIM)
    torch.testing.assert_close(attention(tokens[:, order], grid), attention(tokens, grid)[:, order], atol=1e-5, rtol=0)


@each_on_tokens
def test_prefix_tokens_sit_nowhere_and_get_nothing(position):
    grid = Grid(3, 5, 2)
    made, tokens = make(position, grid), torch.randn(2, grid.num_tokens, DIM)
    placed = made.on_tokens(tokens, grid)
    if position is not LearnedPosition:  # whose table has rows for them
        assert torch.equal(placed[:, :2], tokens[:, :2])
    assert not torch.isclose(placed[:, 2:], tokens[:, 2:]).all(-1).any()


@every
def test_a_place_gets_the_same_on_a_larger_canvas_where_the_position_says_so(position):
    small, large = Grid(3, 5, 2), Grid(5, 7, 2)
    made, tokens = make(position, small), torch.randn(2, small.num_tokens, DIM)
    on_canvas = torch.zeros(2, large.num_tokens, DIM)
    inside = [0, 1, *(2 + row * 7 + column for row in range(3) for column in range(5))]
    on_canvas[:, inside] = tokens
    same = [torch.isclose(made.on_tokens(tokens, small), made.on_tokens(on_canvas, large)[:, inside], atol=1e-6).all()]
    heads = tokens.unflatten(2, (HEADS, -1)).transpose(1, 2)
    padded = on_canvas.unflatten(2, (HEADS, -1)).transpose(1, 2)
    for alone, inside_canvas in zip(
        made.on_queries_and_keys(heads, heads, small), made.on_queries_and_keys(padded, padded, large), strict=True
    ):
        same.append(torch.isclose(alone, inside_canvas[:, :, inside], atol=1e-6).all())
    if made.adds_to_scores:
        bias = made.on_scores(large)[:, inside][:, :, inside]
        same.append(torch.isclose(made.on_scores(small), bias, atol=1e-6).all())
    assert all(same) == made.is_same_on_canvas


@each_that_places
def test_it_follows_the_precision_of_the_tokens(position):
    grid = Grid(3, 5, 2)
    attention = SelfAttention(DIM, HEADS, position=make(position, grid))
    exact = attention(tokens := torch.randn(2, grid.num_tokens, DIM), grid)
    outputs = attention.bfloat16()(tokens.bfloat16(), grid)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), exact, atol=0.1, rtol=0.1)


@each_that_places
def test_it_follows_the_tokens_to_another_device(position):
    grid = Grid(3, 5, 2)
    attention = SelfAttention(DIM, HEADS, position=make(position, grid)).to("meta")
    for other in (grid, Grid(5, 2, 2)):
        assert attention(torch.empty(2, other.num_tokens, DIM, device="meta"), other).device.type == "meta"


def from_yaml(text):
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "model")
    return parser.instantiate(parser.parse_string(text)).model


@every
def test_a_config_names_it_where_it_belongs(position):
    name = f"vitlab.attention.{position.__name__}"
    if is_made_with_heads(position):
        choice = f"attention: {{class_path: vitlab.attention.SelfAttention, init_args: {{position: {name}}}}}"
    else:
        choice = f"position: {name}"
    model = from_yaml(f"""
        model:
          class_path: vitlab.models.ViT
          init_args:
            {{image_size: [12, 20], num_classes: 3, patch_size: 4, {choice},
             size: {{dim: {DIM}, depth: 2, num_heads: {HEADS}, mlp_dim: 13}}}}
    """)
    parts = [block.attention.position for block in model.blocks] if is_made_with_heads(position) else [model.position]
    assert all(type(part) is position for part in parts)
    assert len({id(part) for part in parts}) == len(parts)
    starts = [torch.cat([weight.flatten() for weight in [torch.ones(0), *part.parameters()]]) for part in parts]
    assert len(starts[0]) == 0 or len(parts) == 1 or not torch.equal(*starts)  # no two blocks start alike
    assert model(torch.randn(2, 3, 12, 20)).shape == (2, 3)
    assert model(torch.randn(2, 3, 20, 8)).shape == (2, 3)


@each_that_places
def test_a_position_in_the_wrong_place_says_where_it_belongs(position):
    if is_made_with_heads(position):
        where = "give it to attention|into an attention layer's position"
        factory = partial(ViT, 12, patch_size=4, position=position)
    else:
        where = "belongs before a model's first block"
        factory = partial(SelfAttention, DIM, HEADS, position=position)
    with pytest.raises(ValueError, match=f"{position.__name__} .*({where})"):
        factory()


def test_a_config_may_set_what_a_position_takes():
    model = from_yaml(f"""
        model:
          class_path: vitlab.models.ViT
          init_args:
            image_size: 12
            patch_size: 4
            size: {{dim: {DIM}, depth: 2, num_heads: 2, mlp_dim: 13}}
            position: {{class_path: vitlab.attention.LearnedFactorized2D, init_args: {{join: concatenate}}}}
            attention:
              class_path: vitlab.attention.SelfAttention
              init_args:
                position:
                  class_path: vitlab.attention.QuadraticRelative
                  init_args: {{centers: [[0, 1], [-1.5, 0]], alpha: 2.0}}
    """)
    assert model.position.rows.shape == (3, DIM // 2)
    for block in model.blocks:
        assert block.attention.position.centers.tolist() == [[0, 1], [-1.5, 0]]
        torch.testing.assert_close(block.attention.position.log_alpha.exp(), torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize("parent", [AbsolutePosition, RelativePosition, RotaryPosition])
def test_a_parent_must_be_told_how_it_places(parent):
    with pytest.raises(TypeError, match="abstract"):
        parent()


def test_a_relative_position_of_ones_own_needs_one_function():
    class RowsBelow(RelativePosition):
        def bias(self, offsets):
            return offsets[None, ..., 0].float()

        def prefix_bias(self):
            return torch.tensor([[10.0], [20.0], [30.0]])

    grid = Grid(3, 5, num_prefix_tokens=2)
    scores = RowsBelow().on_scores(grid)[0]
    rows = grid.coordinates()[:, 0].float()
    torch.testing.assert_close(scores[2:, 2:], rows[None] - rows[:, None])
    assert (scores[2:, :2] == 10).all()  # patch to prefix
    assert (scores[:2, 2:] == 20).all()  # prefix to patch
    assert (scores[:2, :2] == 30).all()
