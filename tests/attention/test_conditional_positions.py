import pytest
import torch

from vitlab.attention import ConditionalPosition, Grid

DIM = 7


def test_each_patch_gets_the_sum_over_its_neighbors_and_nothing_from_beyond_the_border():
    grid, position = Grid(3, 5), ConditionalPosition(DIM)
    tokens = torch.randn(2, 15, DIM)
    image, added = tokens.unflatten(1, (3, 5)), (position.on_tokens(tokens, grid) - tokens).unflatten(1, (3, 5))
    weight, bias = position.convolution.weight[:, 0], position.convolution.bias
    for row, column in [(0, 0), (1, 2), (2, 4)]:
        expected = bias.clone()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if 0 <= row + down < 3 and 0 <= column + right < 5:
                    expected = expected + weight[:, 1 + down, 1 + right] * image[:, row + down, column + right]
        torch.testing.assert_close(added[:, row, column], expected, atol=1e-6, rtol=1e-5)


def test_prefix_tokens_are_left_alone_and_not_seen():
    grid, position = Grid(3, 5, num_prefix_tokens=2), ConditionalPosition(DIM)
    tokens = torch.randn(2, 17, DIM)
    placed = position.on_tokens(tokens, grid)
    assert torch.equal(placed[:, :2], tokens[:, :2])
    torch.testing.assert_close(placed[:, 2:], position.on_tokens(tokens[:, 2:], Grid(3, 5)))


def test_equal_tokens_are_told_apart_by_the_border_alone():
    placed = ConditionalPosition(DIM).on_tokens(torch.ones(1, 35, DIM), Grid(5, 7)).unflatten(1, (5, 7))[0]
    inside = placed[1:-1, 1:-1].flatten(0, 1)
    torch.testing.assert_close(inside, inside[:1].expand_as(inside))
    kinds = torch.stack([placed[1, 1], placed[0, 1], placed[1, 0], placed[0, 0], placed[-1, -1]])
    assert len(kinds.unique(dim=0)) == 5


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_an_image_on_a_larger_empty_canvas_gets_the_same(kernel_size):
    position = ConditionalPosition(DIM, Grid(3, 5), kernel_size)
    tokens = torch.randn(2, 15, DIM)
    canvas = torch.zeros(2, 7, 11, DIM)
    canvas[:, :3, :5] = tokens.unflatten(1, (3, 5))
    placed = position.on_tokens(canvas.flatten(1, 2), Grid(7, 11)).unflatten(1, (7, 11))[:, :3, :5]
    torch.testing.assert_close(placed.flatten(1, 2), position.on_tokens(tokens, Grid(3, 5)))


@pytest.mark.parametrize("kernel_size", [1, 4])
def test_a_kernel_without_a_middle_or_a_border_is_refused(kernel_size):
    with pytest.raises(ValueError, match=f"kernel_size must be odd and 3 or more, got {kernel_size}"):
        ConditionalPosition(DIM, kernel_size=kernel_size)
