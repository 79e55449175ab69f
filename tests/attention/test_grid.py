import pytest

from vitlab.attention import Grid


def test_coordinates_follow_the_order_of_a_flattened_image():
    grid = Grid(3, 5, num_prefix_tokens=2)
    expected = [[row, column] for row in range(3) for column in range(5)]
    assert grid.coordinates().tolist() == expected


def test_counts_tell_patches_from_tokens():
    grid = Grid(3, 5, num_prefix_tokens=2)
    assert (grid.num_patches, grid.num_tokens) == (15, 17)


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0), (1, 1, -1)])
def test_an_impossible_grid_is_refused(arguments):
    with pytest.raises(ValueError, match="a grid needs"):
        Grid(*arguments)
