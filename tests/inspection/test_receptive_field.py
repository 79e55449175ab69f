import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.inspection import effective_receptive_field, theoretical_receptive_field
from vitlab.inspection.receptive_field import radius_holding
from vitlab.models import RNN, ResNet, ResNetShape, ViT, ViTShape

IMAGES = torch.randn(3, 1, 11, 13, generator=torch.Generator().manual_seed(0))


def test_a_convolutions_field_is_its_kernel():
    conv = nn.Conv2d(1, 1, (3, 5), padding=(1, 2))
    field = effective_receptive_field(conv, IMAGES)
    kernel = conv.weight[0, 0].detach().abs()
    expected = torch.zeros(11, 13)
    expected[4:7, 4:9] = kernel / kernel.sum()
    torch.testing.assert_close(field.map, expected)


def test_channels_that_pull_in_opposite_directions_do_not_cancel():
    conv = nn.Conv2d(2, 1, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, 1] = -conv.weight[:, 0]
    kernel = conv.weight[0, 0].detach().abs()
    field = effective_receptive_field(conv, torch.randn(3, 2, 11, 13))
    torch.testing.assert_close(field.map[4:7, 5:8], kernel / kernel.sum())


def test_two_convolutions_of_ones_see_a_pyramid():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    for conv in model:
        nn.init.ones_(conv.weight)
    field = effective_receptive_field(model, IMAGES)
    profile = torch.tensor([1.0, 2, 3, 2, 1]) / 9
    torch.testing.assert_close(field.map[3:8, 4:9], torch.outer(profile, profile))
    assert field.layer == "1"
    assert (field.row, field.column) == pytest.approx((5, 6))


def test_a_pixel_that_sees_itself_alone_has_no_radius():
    field = effective_receptive_field(nn.Conv2d(1, 3, 1), IMAGES)
    assert field.map[5, 6] == 1
    assert (field.row, field.column, field.radius_50_px, field.radius_95_px) == (5, 6, 0, 0)


def test_the_radius_holds_the_share_that_it_names():
    shares = torch.zeros(7, 11)
    shares[3, 5], shares[3, 8], shares[0, 1] = 0.5, 0.45, 0.05
    assert radius_holding(shares, 0.5, 3, 5) == 0
    assert radius_holding(shares, 0.95, 3, 5) == 3
    assert radius_holding(shares, 1.0, 3, 5) == 5


def test_a_tokenizers_field_is_the_patch_in_the_middle():
    model = ViT(image_size=(12, 20), num_classes=7, patch_size=4, size=ViTShape(12, 1, 3, 24))
    shares = effective_receptive_field(model, torch.randn(2, 3, 12, 20), layer="tokenizer").map
    assert shares[4:8, 8:12].sum() == pytest.approx(1)
    assert (shares[4:8, 8:12] > 0).all()


def test_prefix_tokens_do_not_move_the_patch_in_the_middle_of_a_timm_vit():
    model = VisionTransformer(
        img_size=(12, 20), patch_size=4, embed_dim=12, depth=2, num_heads=3, reg_tokens=2, num_classes=7
    )
    for block in model.blocks:  # nobody talks to anybody
        nn.init.zeros_(block.attn.proj.weight)
    field = effective_receptive_field(model, torch.randn(2, 3, 12, 20))
    assert field.layer == "blocks.1"
    assert field.map[4:8, 8:12].sum() == pytest.approx(1)


def test_attention_sees_every_pixel():
    model = ViT(image_size=(12, 20), num_classes=7, patch_size=4, size=ViTShape(12, 2, 3, 24))
    assert (effective_receptive_field(model, torch.randn(5, 3, 12, 20)).map > 0).all()


def test_an_rnn_hears_nothing_of_the_pixels_to_come():
    model = RNN(image_size=(12, 20), num_classes=7, patch_size=4, size="micro")
    shares = effective_receptive_field(model, torch.randn(5, 3, 12, 20)).map
    assert (shares[:4] > 0).all()
    assert (shares[4:8, :12] > 0).all()
    assert not shares[4:8, 12:].any()
    assert not shares[8:].any()


def test_a_resnet_listens_within_its_theoretical_field():
    torch.manual_seed(0)
    model = ResNet(num_classes=7, size=ResNetShape([1, 1], [8, 8]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    rows = effective_receptive_field(model, torch.randn(13, 3, 29, 31)).map.any(1).nonzero()
    assert rows.max() - rows.min() + 1 == theoretical_receptive_field(model)[0]


def test_a_layer_norm_whose_plain_sum_is_constant_is_seen_through_by_random_signs():
    model = nn.Sequential(nn.Conv2d(1, 12, 1), nn.Flatten(2), _Transposed(), nn.LayerNorm(12))
    field = effective_receptive_field(model, torch.randn(5, 1, 3, 7))
    assert field.layer == "3"
    assert field.map[1, 3] == 1


class _Transposed(nn.Module):
    def forward(self, features):
        return features.transpose(1, 2)


def test_a_seed_repeats_its_field_and_batches_change_nothing():
    model = ViT(image_size=(12, 20), num_classes=7, patch_size=4, size=ViTShape(12, 2, 3, 24))
    images = torch.randn(7, 3, 12, 20)
    field = effective_receptive_field(model, images, seed=3)
    assert torch.equal(field.map, effective_receptive_field(model, images, seed=3).map)
    assert not torch.equal(field.map, effective_receptive_field(model, images, seed=4).map)
    torch.testing.assert_close(field.map, effective_receptive_field(model, images, seed=3, batch_size=7).map)


def test_the_model_and_the_images_are_left_as_they_were():
    model = ResNet(num_classes=7, size=ResNetShape([1, 1], [8, 8])).train().requires_grad_(False)
    images, state = torch.randn(3, 3, 12, 20), {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        effective_receptive_field(model, images)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.grad is None
    assert not images.requires_grad


@pytest.mark.parametrize(
    ("model", "images", "layer", "message"),
    [
        (nn.Conv2d(1, 1, 3), IMAGES, "conv", "Conv2d has no layer 'conv'"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()), IMAGES, "1", "which has no places in the image"),
        (
            nn.Conv2d(1, 1, 3),
            IMAGES[0],
            None,
            r"images must be \(batch, channels, height, width\) .* got \(1, 11, 13\)",
        ),
        (nn.Conv2d(1, 1, 3), IMAGES.byte(), None, "normalized floating-point numbers, got torch.uint8"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Hardtanh(9, 10)), IMAGES / 100, None, "no pixel moves the center unit"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, images, layer, message):
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(model, images, layer)


def test_a_field_far_from_its_middle_is_measured_from_its_own_center():
    conv = nn.Conv2d(1, 1, (1, 5), padding=(0, 4), bias=False)
    with torch.no_grad():
        conv.weight.zero_()[0, 0, 0, [0, 4]] = 1.0
    field = effective_receptive_field(conv, IMAGES)
    first, last = field.map[5].nonzero()[[0, -1], 0].tolist()
    assert last - first == 4
    assert field.column == pytest.approx((first + last) / 2)
    assert math.isclose(field.radius_50_px, 2, abs_tol=1e-5)
