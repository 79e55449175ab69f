import pytest
import torch

from vitlab.attention import Grid
from vitlab.attention.tiling import Tiling, cut, uncut

GRIDS = [Grid(7, 11), Grid(5, 3), Grid(13, 13), Grid(1, 17)]
TILINGS = [
    Tiling((2, 3)),
    Tiling((4, 4), (3, 3)),
    Tiling((2, 2), (5, 3)),  # a halo wider than the tile
    Tiling((3, 3), (2, 2), dilation=2),
    Tiling((4, 4), lead=(2, 1)),
    Tiling((3, 2), (1, 1), dilation=3),
    Tiling((1, 5), (0, 3), is_sequence=True),
]
each = pytest.mark.parametrize(("grid", "tiling"), [(grid, tiling) for grid in GRIDS for tiling in TILINGS])


@each
def test_putting_tiles_together_again_gives_what_was_cut(grid, tiling):
    patches = torch.randn(2, 3, grid.num_patches, 5)
    tiles = cut(patches, grid, tiling)
    assert tiles.shape[-2:] == (tiling.tile[0] * tiling.tile[1], 5)
    assert torch.equal(uncut(tiles, grid, tiling), patches)


@each
def test_a_tiles_keys_are_its_queries_with_the_halo_around_them(grid, tiling):
    (rows, columns), (high, wide) = tiling.tile, tiling.halo
    numbers = torch.arange(grid.num_patches, dtype=torch.float)[:, None]
    queries = cut(numbers, grid, tiling, fill=-1)[..., 0].unflatten(1, (rows, columns))
    keys = cut(numbers, grid, tiling, with_halo=True, fill=-1)[..., 0].unflatten(
        1, (rows + 2 * high, columns + 2 * wide)
    )
    assert torch.equal(keys[:, high : high + rows, wide : wide + columns], queries)
    beside = tiling.dilation
    below = tiling.dilation * (grid.num_patches if tiling.is_sequence else grid.width)
    for near, far, step in ((keys[:, :, :-1], keys[:, :, 1:], beside), (keys[:, :-1], keys[:, 1:], below)):
        inside = (near >= 0) & (far >= 0)
        assert (far[inside] - near[inside] == step).all()


@each
def test_every_neighbor_within_the_halo_is_among_the_keys(grid, tiling):
    numbers = torch.arange(grid.num_patches, dtype=torch.float)[:, None]
    queries, keys = (cut(numbers, grid, tiling, with_halo=halo, fill=-1)[..., 0].tolist() for halo in (False, True))
    size = (1, grid.num_patches) if tiling.is_sequence else (grid.height, grid.width)
    for own, around in zip(queries, keys, strict=True):
        for number in (int(number) for number in own if number >= 0):
            row, column = divmod(number, size[1])
            for down in range(-tiling.halo[0], tiling.halo[0] + 1):
                for right in range(-tiling.halo[1], tiling.halo[1] + 1):
                    r, c = row + down * tiling.dilation, column + right * tiling.dilation
                    if 0 <= r < size[0] and 0 <= c < size[1]:
                        assert r * size[1] + c in around


def test_gradients_come_back_through_every_copy():
    grid, tiling = Grid(7, 11), Tiling((3, 3), (2, 2))
    patches = torch.randn(grid.num_patches, 2, requires_grad=True)
    tiles = cut(patches, grid, tiling, with_halo=True)
    numbers = cut(torch.arange(77.0)[:, None], grid, tiling, with_halo=True, fill=-1)
    (gradient,) = torch.autograd.grad(tiles.sum(), patches)
    copies = torch.stack([(numbers == number).sum() for number in range(77)]).float()
    assert torch.equal(gradient, copies[:, None].expand(-1, 2))


def test_tiles_are_used_only_where_they_save_work():
    tiling = Tiling((8, 8), (3, 3))
    assert not tiling.saves_work(Grid(14, 14))
    assert tiling.saves_work(Grid(24, 24))


@pytest.mark.parametrize("grid", [Grid(1, 400), Grid(3, 100), Grid(20, 20), Grid(17, 40)])
@pytest.mark.parametrize("tiling", [Tiling((8, 8), (3, 3)), Tiling((8, 8), (1, 1), 4), Tiling((14, 14))])
def test_tiles_that_save_work_hold_at_most_half_of_all_pairs(grid, tiling):
    fitted = tiling.fitted(grid)
    numbers = torch.arange(float(grid.num_patches))[:, None]
    queries, keys = (cut(numbers, grid, fitted, with_halo=halo, fill=-1) for halo in (False, True))
    pairs = queries.shape[0] * queries.shape[1] * keys.shape[1]
    assert fitted.saves_work(grid) == (2 * pairs <= grid.num_patches**2)
    for own, around in zip(queries[..., 0].tolist(), keys[..., 0].tolist(), strict=True):
        for number in (int(number) for number in own if number >= 0):
            row, column = divmod(number, grid.width)
            reach = [halo * tiling.dilation for halo in tiling.halo]
            near = range(-reach[0], reach[0] + 1, tiling.dilation), range(-reach[1], reach[1] + 1, tiling.dilation)
            wanted = {(row + down, column + right) for down in near[0] for right in near[1]}
            inside = {(r, c) for r, c in wanted if 0 <= r < grid.height and 0 <= c < grid.width}
            assert {r * grid.width + c for r, c in inside} <= set(around), "a key is missing"


def test_tilings_join_only_when_they_cut_alike():
    wide, high = Tiling((4, 4), (1, 3)), Tiling((4, 4), (2, 0))
    assert wide.joined_with(high) == Tiling((4, 4), (2, 3))
    assert wide.joined_with(Tiling((4, 4), (1, 3), dilation=2)) is None
