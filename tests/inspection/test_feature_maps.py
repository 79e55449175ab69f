import pytest
import torch
from torch import nn

from vitlab.attention import Grid
from vitlab.inspection import layer_names
from vitlab.inspection.feature_maps import as_map, evaluating, last_map_name, token_grid, watched
from vitlab.models import RNN, ResNet, ResNetShape, TimmModel, ViT, ViTShape

SHAPE = ViTShape(dim=12, depth=2, num_heads=3, mlp_dim=24, num_register_tokens=2)


def small_vit(**options):
    return ViT(**{"image_size": (12, 20), "num_classes": 7, "patch_size": 4, "size": SHAPE} | options)


def small_resnet():
    return ResNet(num_classes=7, size=ResNetShape([1, 2], [8, 16]))


def test_blocks_are_named_in_both_families():
    assert layer_names(small_vit()) == ["blocks.0", "blocks.1"]
    assert layer_names(small_resnet()) == ["stages.0.0", "stages.1.0", "stages.1.1"]
    timm_names = layer_names(TimmModel("resnet18", image_size=32, num_classes=7))
    assert timm_names == [f"model.layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_without_blocks_the_layers_with_weights_are_named():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5, 7))
    assert layer_names(model) == ["0", "4"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (small_vit, "blocks.1"),
        (small_resnet, "stages.1.1"),
        (lambda: RNN(image_size=(12, 20), patch_size=4, size="micro"), "layers"),
        (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "1"),
        (lambda: nn.Conv2d(3, 5, 3), ""),
    ],
)
def test_the_last_map_is_the_last_block_or_layer_with_places(make, expected):
    assert last_map_name(make(), torch.randn(2, 3, 12, 20)) == expected


def test_a_model_without_places_is_refused():
    with pytest.raises(ValueError, match="no layer of Sequential gives a map with more than one place"):
        last_map_name(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.randn(2, 3, 2, 2))


def test_tokens_are_laid_out_row_by_row_without_the_prefix():
    tokens = torch.randn(2, 3 + 3 * 5, 12)
    laid_out = as_map(small_vit(), "blocks.1", tokens, (12, 20))
    assert laid_out.shape == (2, 12, 3, 5)
    assert torch.equal(laid_out[:, :, 1, 4], tokens[:, 3 + 5 + 4])


def test_channels_that_come_last_come_second():
    swin = TimmModel("swin_s3_tiny_224", image_size=224, num_classes=7)
    features = torch.randn(2, 7, 11, 13)
    assert as_map(swin, "model.layers.0", features, (224, 224)).shape == (2, 13, 7, 11)
    assert as_map(swin, "model.patch_embed.proj", features, (224, 224)).shape == (2, 7, 11, 13)


@pytest.mark.parametrize(
    ("name", "image_size", "places"),
    [
        ("deit_tiny_distilled_patch16_224", (64, 96), (4, 6)),  # two tokens before the patches
        ("cait_xxs24_224", (64, 96), (4, 6)),  # whose class token comes late
        ("eva02_tiny_patch14_224", (56, 84), (4, 6)),
        ("levit_128s", (224, 224), (4, 4)),  # whose tokens get fewer from stage to stage
        ("convnext_atto", (64, 96), (2, 3)),
    ],
)
def test_the_last_map_of_a_timm_model_has_the_images_shape(name, image_size, places):
    model, images = TimmModel(name, image_size, num_classes=7), torch.randn(1, 3, *image_size)
    layer = last_map_name(model, images)
    with torch.no_grad(), evaluating(model), watched(model, [layer]) as outputs:
        model(images)
    assert as_map(model, layer, outputs[layer], image_size).shape[2:] == places


def test_a_layer_without_places_is_refused_with_some_that_have_them():
    with pytest.raises(
        ValueError, match=r"layer 'head' gives \(2, 7\), which has no places .* such as blocks.0, blocks.1"
    ):
        as_map(small_vit(), "head", torch.randn(2, 7), (12, 20))


def test_the_grid_is_the_models_own_or_else_most_like_the_image():
    assert token_grid(small_vit(), 18, (12, 20)) == Grid(3, 5, 3)
    assert token_grid(nn.Identity(), 3 * 5, (12, 20)) == Grid(3, 5)
    assert token_grid(nn.Identity(), 16 * 4, (64, 16)) == Grid(16, 4)


def test_a_prefix_that_a_layer_has_not_met_yet_is_not_taken_off():
    assert token_grid(small_vit(), 15, (12, 20)) == Grid(3, 5)


def test_watched_outputs_are_safe_from_work_in_place():
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(inplace=True))
    with torch.no_grad(), watched(model, ["0"]) as outputs:
        model(torch.randn(2, 3, 7, 11))
    assert outputs["0"].min() < 0


def test_hooks_are_taken_off_after_an_error():
    model = small_resnet()
    with pytest.raises(RuntimeError), watched(model, ["stem", "stages.0.0"]):
        model(torch.randn(2, 5, 12, 20))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_is_not_there_is_refused():
    with (
        pytest.raises(ValueError, match=r"ViT has no layer 'blocks.2'; .* such as blocks.0, blocks.1"),
        watched(small_vit(), ["blocks.0", "blocks.2"]),
    ):
        pass


def test_each_module_gets_its_own_mode_back():
    model = small_resnet().train()
    model.stem.eval()
    before = [module.training for module in model.modules()]

    def fail():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in model.modules()] == before
