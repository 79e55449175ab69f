import random

import pytest
import torch
from torch import nn

from vitlab.attention import All, Grid, QuadraticRelative, attention_from_conv
from vitlab.attention.convolution import OneOffset

NUM_CONFIGURATIONS = 240


def random_convolution(number):
    """A convolution and images for it, every argument drawn; images no smaller than the kernel."""
    draw = random.Random(number)
    groups = draw.choice([1, 1, 1, 2, 3])
    channels = groups * draw.choice([1, 2, 3]), groups * draw.choice([1, 2, 5])
    kernel, stride, dilation = ([draw.choice(choices) for _ in range(2)] for choices in ([1, 3, 5], [1, 2, 3], [1, 2]))
    padding = draw.choice(["same", "valid"]) if draw.random() < 0.2 else [draw.randint(0, 4) for _ in range(2)]
    if padding == "same":
        stride = [1, 1]
    torch.manual_seed(number)
    conv = nn.Conv2d(*channels, kernel, stride, padding, dilation, groups, bias=draw.random() < 0.5)
    return conv, torch.randn(2, channels[0], draw.choice([11, 13]), draw.choice([9, 17]))


@pytest.mark.parametrize("start", range(0, NUM_CONFIGURATIONS, 20))
def test_attention_equals_convolution_borders_included(start):
    for number in range(start, start + 20):
        conv, images = random_convolution(number)
        expected, attention = conv(images), attention_from_conv(conv)
        outputs = attention(images)
        assert outputs.shape == expected.shape, conv
        torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=0, msg=lambda text: f"{conv}: {text}")  # noqa: B023


def test_the_drawn_configurations_cover_every_argument():
    drawn = [random_convolution(number)[0] for number in range(NUM_CONFIGURATIONS)]
    assert {size for conv in drawn for size in conv.kernel_size} == {1, 3, 5}
    assert {stride for conv in drawn for stride in conv.stride} == {1, 2, 3}
    assert {dilation for conv in drawn for dilation in conv.dilation} == {1, 2}
    assert {conv.groups for conv in drawn} == {1, 2, 3}
    assert any(conv.groups == conv.in_channels > 1 for conv in drawn), "none is depthwise"
    assert {conv.bias is None for conv in drawn} == {True, False}
    assert {"same", "valid"} <= {conv.padding for conv in drawn if isinstance(conv.padding, str)}


def test_gradients_are_those_of_the_convolution():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    images = torch.randn(2, 2, 5, 7, requires_grad=True)
    attention = attention_from_conv(conv)
    one = torch.autograd.grad(conv(images).square().sum(), images)
    other = torch.autograd.grad(attention(images).square().sum(), images)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("number", range(10))
def test_the_soft_form_approaches_the_convolution_as_it_sharpens(number):
    conv, images = random_convolution(number)
    errors = [
        (attention_from_conv(conv, sharpness)(images) - conv(images)).abs().max() for sharpness in (0.5, 2, 8, 20)
    ]
    assert errors[-1] < 1e-5
    if max(conv.kernel_size) > 1:
        assert errors[0] > errors[1] > errors[2] > 1e-4


def test_the_soft_form_can_learn_its_centers_and_its_width():
    attention = attention_from_conv(nn.Conv2d(2, 3, 3, padding=1), sharpness=1.0)
    assert isinstance(attention.attention.position, QuadraticRelative)
    assert isinstance(attention.attention.pattern, All)
    attention(torch.randn(2, 2, 5, 7)).square().sum().backward()
    for parameter in attention.attention.position.parameters():
        assert (parameter.grad != 0).all()


def test_each_head_puts_all_weight_on_its_own_offset():
    attention = attention_from_conv(nn.Conv2d(2, 3, 3, padding=1)).attention
    weights = attention.weights(torch.randn(1, 35, 2), Grid(5, 7))[0]
    assert weights.shape == (9, 35, 35)
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    down_right = weights[8].unflatten(0, (5, 7)).unflatten(2, (5, 7))
    assert down_right[1, 2, 2, 3] == 1
    assert down_right[4, 6].sum() == 0, "beyond the border there is nobody"


def test_a_convolution_of_another_type_keeps_it():
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    images = torch.randn(2, 2, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(attention_from_conv(conv)(images), conv(images))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(1, 1, (3, 4)), "kernel of 3 x 4 has no cell in the middle; use odd sides"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect' .* use zeros"),
        (nn.Linear(1, 1), "takes a torch.nn.Conv2d, got Linear"),
    ],
)
def test_what_the_theorem_does_not_cover_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        attention_from_conv(module)


def test_prefix_tokens_have_no_place_in_a_convolution():
    with pytest.raises(ValueError, match="no tokens without a place"):
        OneOffset(torch.zeros(1, 2, dtype=torch.long)).mask(Grid(3, 5, 1))
