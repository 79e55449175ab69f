import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.activations import HardSigmoid
from torch import nn

from vitlab.attention import SelfAttention
from vitlab.inspection import theoretical_receptive_field
from vitlab.models import ResNet, ResNetShape, TimmModel, ViT


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=3))
def test_a_chain_follows_the_closed_form(layers):
    model = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride, dilation=dilation) for kernel, stride, dilation in layers))
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    assert theoretical_receptive_field(model, str(len(layers) - 1), in_channels=1) == (field, field)


def test_height_and_width_are_told_apart():
    model = nn.Sequential(nn.Conv2d(2, 5, (3, 7), stride=(1, 2)), nn.ReLU6(), nn.MaxPool2d((1, 3), stride=1))
    assert theoretical_receptive_field(model, in_channels=2) == (3, 7 + 2 * 2)


@pytest.mark.parametrize(
    ("shape", "stem", "expected"),
    [
        (ResNetShape([1, 1, 1], [8, 8, 8]), "3x3", 25),
        (ResNetShape([2, 2, 2, 2], [8, 8, 8, 8]), "7x7", 435),  # torchvision's ResNet-18
        (ResNetShape([3, 4, 6, 3], [8, 8, 8, 8], "bottleneck"), "7x7", 427),  # its ResNet-50: strides in the 3x3
    ],
)
def test_resnets_have_their_known_fields(shape, stem, expected):
    model = ResNet(image_size=64, num_classes=7, size=shape, stem=stem)
    assert theoretical_receptive_field(model) == (expected, expected)


def test_an_earlier_layer_sees_less():
    model = ResNet(size=ResNetShape([1, 1, 1], [8, 8, 8]))
    fields = [theoretical_receptive_field(model, layer)[0] for layer in ("stem", "stages.0", "stages.1", "stages.2")]
    assert fields == [3, 7, 13, 25]


def test_clipped_activations_and_depthwise_convolutions_of_timm_are_seen_through():
    model = TimmModel("mobilenetv2_035", image_size=64, num_classes=7)
    assert theoretical_receptive_field(model) == (491, 491)


def test_an_activation_of_timms_that_saturates_hides_nothing():
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(5)), HardSigmoid())
    assert theoretical_receptive_field(model, in_channels=1) == (11, 11)


def test_what_averages_over_the_image_sees_all_of_it():
    class Squeeze(nn.Module):
        def forward(self, features):
            return features * features.mean((2, 3), keepdim=True)

    assert theoretical_receptive_field(nn.Sequential(nn.Conv2d(3, 2, 3), Squeeze())) == (math.inf, math.inf)
    attentive = ResNet(size=ResNetShape([1], [8]), attention=lambda dim: SelfAttention(dim, 2))
    assert theoretical_receptive_field(attentive) == (math.inf, math.inf)
    assert theoretical_receptive_field(attentive, "stages.0.0") == (7, 7)


@pytest.mark.parametrize(
    "model",
    [
        ViT(image_size=32, patch_size=4, size="micro"),
        TimmModel("vit_tiny_patch16_224", image_size=32, num_classes=7),
    ],
)
def test_a_vit_has_none(model):
    with pytest.raises(ValueError, match="self-attention sees all tokens"):
        theoretical_receptive_field(model)


def test_the_model_keeps_its_weights():
    model = ResNet(size=ResNetShape([1], [8])).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    theoretical_receptive_field(model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert model.stem[1].weight.requires_grad
