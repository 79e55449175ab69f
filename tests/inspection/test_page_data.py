import base64
import zlib

import numpy as np
import pytest
import timm
import torch

from vitlab.attention import Grid
from vitlab.inspection import capture, page_data, rollout
from vitlab.inspection.page_data import BUDGET_BYTES, LEVELS, pack, pack_map, view_model
from vitlab.models import ResNet, TimmModel, ViT, ViTShape

HEADS, GRID = 3, Grid(5, 7, 2)


def unpack(block, heads, grid, levels):
    """Read a block as the page's script does: (heads, queries, tokens)."""
    content, lines = zlib.decompress(base64.b64decode(block)), heads * grid.num_tokens
    largest = np.frombuffer(content, "<f4", lines)
    prefix = np.frombuffer(content, "<u2", lines * grid.num_prefix_tokens, 4 * lines).reshape(lines, -1) / 65_535
    steps = np.frombuffer(content, np.uint8, offset=4 * lines + 2 * prefix.size).reshape(lines, -1) / levels
    shares = np.concatenate([prefix, largest[:, None] * steps**2], axis=1)
    return shares.reshape(heads, grid.num_tokens, grid.num_tokens)


def random_weights(heads=HEADS, grid=GRID, sharpness=3.0):
    scores = torch.randn(heads, grid.num_tokens, grid.num_tokens, generator=torch.Generator().manual_seed(0))
    return (sharpness * scores).softmax(dim=-1)


def micro_vit(**settings):
    shape = ViTShape(dim=24, depth=3, num_heads=3, mlp_dim=24, num_register_tokens=2)
    return ViT(image_size=(10, 14), num_classes=11, patch_size=2, size=shape, **settings)


def test_packed_shares_are_as_exact_as_promised():
    weights = random_weights()
    packed = pack([weights], [GRID])
    assert packed.levels == LEVELS[0]
    again, patches = unpack(packed.blocks[0], HEADS, GRID, packed.levels), slice(GRID.num_prefix_tokens, None)
    off = np.abs(again - weights.numpy())
    largest = weights[..., patches].amax(dim=-1).numpy()[..., None]
    assert (off[..., patches] <= 1.01 * largest / packed.levels).all()
    assert off[..., : GRID.num_prefix_tokens].max() <= 0.51 / 65_535
    assert packed.error == pytest.approx(off[..., patches].max(), rel=1e-3)


def test_small_shares_are_finer_than_the_largest():
    weights = torch.zeros(1, GRID.num_tokens, GRID.num_tokens)
    weights[..., 2], weights[..., 3] = 0.99, 0.01
    again = unpack(pack([weights], [GRID]).blocks[0], 1, GRID, LEVELS[0])
    assert np.abs(again[..., 3] - 0.01).max() < 0.04 * 0.01


def test_rows_are_shares_of_their_sum_and_a_row_that_looks_at_nobody_stays_empty():
    weights = random_weights()
    scaled = 7 * weights
    scaled[1, 4] = 0
    again = unpack(pack([scaled], [GRID]).blocks[0], HEADS, GRID, LEVELS[0])
    whole = unpack(pack([weights], [GRID]).blocks[0], HEADS, GRID, LEVELS[0])
    assert not again[1, 4].any()
    assert np.abs(np.delete(again - whole, 4, axis=1)).max() < 5e-3


def test_fewer_levels_are_used_where_space_is_short():
    weights = random_weights(grid=Grid(11, 13))
    sizes, levels = [], []
    for budget in (10**9, 50_000, 30_000, 1):
        packed = pack([weights], [Grid(11, 13)], budget)
        levels.append(packed.levels)
        sizes.append(len(packed.blocks[0]))
    assert levels[0] == LEVELS[0]
    assert levels[-1] == LEVELS[-1]
    assert levels == sorted(levels, reverse=True)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] <= 50_000 * 4 / 3 + 4


def test_attention_without_any_pattern_fits_the_budget():
    # 12 layers x 12 heads x 197 tokens and rollout are 13 such layers; independent shares are as large as they get.
    grid = Grid(14, 14, 1)
    uniform = torch.rand(12, grid.num_tokens, grid.num_tokens, generator=torch.Generator().manual_seed(0)) ** 2
    packed = pack([uniform], [grid], BUDGET_BYTES // 13)
    assert len(packed.blocks[0]) * 13 < 4_700_000


def test_a_map_keeps_its_range_and_a_constant_one_is_no_division_by_zero():
    values = np.linspace(-2, 3, 35, dtype=np.float32).reshape(5, 7)
    text, low, high = pack_map(values)
    again = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(5, 7) / 255
    assert (low, high) == (-2, 3)
    assert np.abs(low + (high - low) * again - values).max() <= 0.51 * 5 / 255
    assert pack_map(np.full((5, 7), 4.0))[1:] == (4.0, 4.0)


def test_a_view_holds_what_capture_and_rollout_give_and_leaves_the_model_as_it_was():
    model, images = micro_vit().train(), torch.randn(2, 3, 10, 14)
    view = view_model(model, images)
    assert model.training
    with torch.no_grad(), capture(model.eval()) as record:
        logits = model(images)
    assert torch.equal(view.logits, logits)
    assert all(torch.equal(one, other) for one, other in zip(view.weights, record.weights, strict=True))
    assert torch.allclose(view.rolled[:, -1], rollout(record.weights))
    assert torch.allclose(view.rolled[:, 0], rollout(record.weights[:1]))
    assert view.prefix_names == ["class token", "register 1", "register 2"]
    assert view.layers[0].grid == Grid(5, 7, 3)


def test_prefix_tokens_of_timm_models_have_their_names():
    options = {"image_size": 32, "num_classes": 5, "depth": 2, "embed_dim": 24, "num_heads": 3, "patch_size": 8}
    distilled = TimmModel("deit_tiny_distilled_patch16_224", **options)
    view = view_model(distilled.eval(), torch.randn(1, 3, 32, 32), layers=[1])
    assert view.prefix_names == ["class token", "distillation token"]
    assert len(view.weights) == 1
    assert view.rolled is None  # of one layer out of two it would say nothing


def test_maps_stand_in_for_attention_and_beside_it():
    images, cam = torch.randn(2, 3, 16, 16), np.random.default_rng(0).random((5, 7))
    seen = view_model(ResNet(image_size=16, num_classes=11, size="micro"), images, maps={"cam": torch.tensor(cam)})
    assert seen.layers == []
    assert seen.maps["cam"].shape == (2, 5, 7)
    both = view_model(micro_vit(), torch.randn(2, 3, 10, 14), maps={"cam": np.stack([cam, cam])})
    assert len(both.layers) == 3
    assert list(both.maps) == ["cam"]


def test_a_wrong_layer_is_refused_also_beside_maps():
    for maps in (None, {"cam": np.ones((5, 7))}):
        with pytest.raises(ValueError, match="no attention layer 3; use 0 to 2"):
            view_model(micro_vit(), torch.randn(1, 3, 10, 14), layers=[3], maps=maps)


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match="no attention was recorded from ResNet"):
        view_model(ResNet(image_size=16, num_classes=11, size="micro"), torch.randn(1, 3, 16, 16))


def test_attention_that_lies_on_no_grid_is_refused_with_a_way_out():
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, embed_dim=12, depths=(1, 1), num_heads=(1, 1))
    with pytest.raises(ValueError, match="does not lie on one grid of patches"):
        view_model(swin, torch.randn(1, 3, 56, 56))


@pytest.mark.parametrize("shape", [(5,), (3, 5, 7), (2, 1, 5, 7), (0, 7)])
def test_a_map_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"map 'cam' must be finite numbers \(rows, columns\) or \(2, rows, columns\)"):
        view_model(micro_vit(), torch.randn(2, 3, 10, 14), maps={"cam": np.ones(shape)})


def test_more_weights_than_a_page_holds_are_refused(monkeypatch):
    monkeypatch.setattr(page_data, "MAX_WEIGHTS", 3 * 3 * 38 * 38 - 1)
    with pytest.raises(ValueError, match=r"12,996 attention weights .* choose layers, such as layers=\[0, 2\]"):
        view_model(micro_vit(), torch.randn(1, 3, 10, 14))
