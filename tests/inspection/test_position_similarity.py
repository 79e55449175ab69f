import matplotlib.colors
import numpy as np
import pytest
import torch

from vitlab.attention import (
    ALiBi2D,
    ConditionalPosition,
    Grid,
    LearnedPosition,
    NoPosition,
    Position,
    QuadraticRelative,
    RelativeBias2D,
    RoPE2D,
    RoPE2DMixed,
    SinCos2D,
)
from vitlab.inspection import plot_positions, position_similarity

DIM, HEADS, GRID = 40, 5, Grid(3, 7, num_prefix_tokens=2)


def test_a_position_on_tokens_is_shown_by_the_cosine_of_what_it_adds():
    position = LearnedPosition(DIM, GRID)
    similarity = position_similarity(position, GRID, 1, 4, DIM)
    vectors = torch.nn.functional.normalize(position.table[0, 2:], dim=-1)
    torch.testing.assert_close(
        similarity, (vectors @ vectors[1 * 7 + 4]).unflatten(0, (3, 7)).detach(), atol=1e-5, rtol=0
    )
    assert not similarity.requires_grad


@pytest.mark.parametrize("rope", [RoPE2D, RoPE2DMixed])
def test_a_rotation_is_shown_by_the_score_of_an_equal_query_and_key(rope):
    position = rope(HEADS, DIM // HEADS)
    angles = position.angles(GRID).expand(HEADS, -1, -1)
    cosines = (angles - angles[:, [1 * 7 + 4]]).cos().mean(-1).unflatten(1, (3, 7)).detach()
    similarity = position_similarity(position, GRID, 1, 4, DIM, HEADS)
    torch.testing.assert_close(similarity, cosines.mean(0))
    torch.testing.assert_close(position_similarity(position, GRID, 1, 4, DIM, HEADS, head=3), cosines[3])


@pytest.mark.parametrize("relative", [ALiBi2D, QuadraticRelative, RelativeBias2D])
def test_a_position_on_scores_is_shown_by_the_bias_of_the_chosen_query(relative):
    position = relative(HEADS, DIM // HEADS)
    position.set_grid(GRID)
    bias = position.on_scores(GRID)[:, 2 + 1 * 7 + 4, 2:].unflatten(1, (3, 7)).detach()
    torch.testing.assert_close(position_similarity(position, GRID, 1, 4, DIM, HEADS), bias.mean(0))
    torch.testing.assert_close(position_similarity(position, GRID, 1, 4, DIM, HEADS, head=2), bias[2])


def test_the_chosen_place_is_the_most_alike_to_itself():
    for position in (SinCos2D(DIM, GRID), LearnedPosition(DIM, GRID), RoPE2D(HEADS, 8), ALiBi2D(HEADS, 8)):
        similarity = position_similarity(position, GRID, 2, 5, DIM, HEADS)
        assert similarity.argmax() == 2 * 7 + 5


def test_places_that_nothing_tells_apart_are_all_alike():
    assert torch.equal(position_similarity(NoPosition(), GRID, 1, 4, DIM), torch.ones(3, 7))
    inside = position_similarity(ConditionalPosition(DIM), Grid(5, 7), 2, 3, DIM)[1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.ones(3, 5))


def test_a_bias_that_all_heads_share_is_every_heads():
    class Ramp(Position):
        def on_scores(self, grid):
            return torch.arange(float(grid.num_tokens)).expand(grid.num_tokens, -1)

    expected = torch.arange(2.0, 23).unflatten(0, (3, 7))
    assert torch.equal(position_similarity(Ramp(), GRID, 0, 0, DIM), expected)
    assert torch.equal(position_similarity(Ramp(), GRID, 0, 0, DIM, HEADS, head=4), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 0, DIM), "row 3, column 0 is not on a grid of 3 x 7 patches; rows are 0 to 2, columns 0 to 6"),
        ((0, -1, DIM), "row 0, column -1 is not on a grid"),
        ((0, 0, DIM, 3), "num_heads 3 does not divide dim 40"),
        ((0, 0, DIM, HEADS, 5), "there is no head 5; heads are 0 to 4"),
    ],
)
def test_what_is_not_there_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        position_similarity(ALiBi2D(HEADS, DIM // HEADS), GRID, *arguments)


def test_the_figure_has_a_named_panel_for_each_position_that_shows_its_similarity():
    positions = {"none": NoPosition(), "sin/cos": SinCos2D(DIM, GRID), "a$b$": ALiBi2D(HEADS, DIM // HEADS)}
    figure = plot_positions(positions, GRID, DIM, HEADS, row=2, column=5)
    figure.canvas.draw()
    panels = figure.axes[: len(positions)]
    assert [panel.get_title() for panel in panels] == list(positions)
    for panel, position in zip(panels, positions.values(), strict=True):
        (image,), (mark,) = panel.images, panel.lines
        expected = position_similarity(position, GRID, 2, 5, DIM, HEADS).numpy()
        np.testing.assert_allclose(image.get_array(), expected)
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (5, 2)
    names = [bar.get_ylabel() for panel in panels for bar in panel.child_axes]
    assert names == ["cosine", "cosine", "added to the score"]


def test_the_figure_has_ink_and_no_texts_that_run_into_each_other():
    names = ["ConditionalPosition", "LearnedFactorized2D"] * 3
    positions = {f"{name} {index}": SinCos2D(DIM, GRID) for index, name in enumerate(names)}
    figure = plot_positions(positions, GRID, DIM)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
    titles = [panel.title.get_window_extent() for panel in figure.axes if panel.get_visible() and panel.images]
    assert len(titles) == 6
    assert not any(one.overlaps(other) for index, one in enumerate(titles) for other in titles[:index])
    mark = matplotlib.colors.to_rgba("#e5484d")
    assert all(panel.lines[0].get_markeredgecolor() == "#e5484d" for panel in figure.axes if panel.images)
    assert (np.abs(pixels / 255 - mark).max(-1) < 0.2).any()


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match="there is no position to draw"):
        plot_positions({}, GRID, DIM)
