import copy

import pytest
import torch
from torch import nn

from vitlab.models import ViT, ViTShape
from vitlab.models.convolved_linear import ConvolvedLinear, convolve_linears


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_a_convolution_with_a_1x1_kernel(bias):
    torch.manual_seed(0)
    linear = nn.Linear(13, 7, bias=bias)
    convolved = nn.Sequential(copy.deepcopy(linear))
    assert convolve_linears(convolved) == 1
    tokens = torch.randn(3, 5, 13, requires_grad=True)
    mapped, expected = convolved(tokens), linear(tokens)
    torch.testing.assert_close(mapped, expected)
    weights = torch.randn_like(expected)
    for got, wanted in zip(
        torch.autograd.grad((mapped * weights).sum(), [tokens, *convolved.parameters()]),
        torch.autograd.grad((expected * weights).sum(), [tokens, *linear.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    assert mapped.is_contiguous()


def test_a_vit_keeps_its_weights_their_names_and_its_logits():
    torch.manual_seed(0)
    vit = ViT(image_size=15, num_classes=7, patch_size=5, size=ViTShape(dim=22, depth=2, num_heads=2, mlp_dim=34))
    convolved = copy.deepcopy(vit)
    assert convolve_linears(convolved) == sum(type(module) is nn.Linear for module in vit.modules())
    assert list(convolved.state_dict()) == list(vit.state_dict())
    images = torch.randn(3, 3, 15, 15)
    torch.testing.assert_close(convolved(images), vit(images))
    assert convolve_linears(convolved) == 0


def test_other_shapes_and_bfloat16_are_left_to_the_linear_layer():
    layer = ConvolvedLinear(13, 7)
    for tokens in (torch.randn(5, 13), torch.randn(2, 3, 5, 13)):
        assert torch.equal(layer(tokens), nn.functional.linear(tokens, layer.weight, layer.bias))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = torch.randn(3, 5, 13)
        assert torch.equal(layer(tokens), nn.functional.linear(tokens, layer.weight, layer.bias))
