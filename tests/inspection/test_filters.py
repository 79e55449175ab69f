import numpy as np
import pytest
import torch
from torch import nn

from vitlab.inspection import first_layer_filters, plot_filters
from vitlab.models import DenseHead, PixelTokenizer, ResNet, ResNetShape, TimmModel, ViT, ViTShape

SHAPE = ViTShape(dim=36, depth=1, num_heads=3, mlp_dim=24)


def small_vit(**options):
    return ViT(**{"image_size": 20, "num_classes": 7, "patch_size": 5, "size": SHAPE} | options)


def test_filters_are_the_weights_of_the_first_layer():
    vit, resnet = small_vit(), ResNet(size=ResNetShape([1], [8]))
    assert torch.equal(first_layer_filters(vit), vit.tokenizer.projection.weight)
    assert torch.equal(first_layer_filters(resnet), resnet.stem[0].weight)
    timm_model = TimmModel("vit_tiny_patch16_224", image_size=32, num_classes=7)
    assert first_layer_filters(timm_model).shape == (192, 3, 16, 16)
    assert not first_layer_filters(vit).requires_grad


def test_a_head_that_comes_first_is_no_first_layer():
    model = small_vit(head=DenseHead, in_channels=2)
    assert first_layer_filters(model).shape == (36, 2, 5, 5)


def test_a_pixel_that_is_a_token_has_filters_of_one_pixel():
    model = small_vit(tokenizer=PixelTokenizer, patch_size=1, image_size=5)
    assert torch.equal(first_layer_filters(model)[..., 0, 0], model.tokenizer.projection.weight)


def test_another_layer_can_be_chosen():
    resnet = ResNet(size=ResNetShape([1], [8]))
    assert torch.equal(first_layer_filters(resnet, layer="stages.0.0.conv2"), resnet.stages[0][0].conv2.weight)


def test_components_are_orthonormal_and_the_strongest_come_first():
    components = first_layer_filters(small_vit(), num_components=11).flatten(1)
    torch.testing.assert_close(components @ components.T, torch.eye(11), atol=1e-5, rtol=0)
    model = small_vit()
    weights = first_layer_filters(model).flatten(1)
    components = first_layer_filters(model, num_components=11).flatten(1)
    strengths = ((weights - weights.mean(0)) @ components.T).square().sum(0)
    assert (strengths.diff() <= 0).all()
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_filters_along_one_direction_have_it_as_their_component():
    conv = nn.Conv2d(2, 7, (3, 5))
    direction = torch.randn(2, 3, 5)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(7.0)[:, None, None, None] * direction)
    (component,) = first_layer_filters(conv, num_components=1)
    cosine = (component * direction).sum() / direction.norm()
    assert abs(cosine) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 0}, r"num_components must be 1 to 8 for filters \(8, 3, 3, 3\), got 0"),
        ({"num_components": 9}, "got 9"),
        ({"layer": "stem.1"}, "layer 'stem.1' is no Conv2d of ResNet; use one such as: stem.0"),
        ({"layer": "root"}, "layer 'root' is no Conv2d"),
    ],
)
def test_what_is_not_there_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        first_layer_filters(ResNet(size=ResNetShape([1], [8])), **options)


def test_a_model_without_filters_is_refused():
    with pytest.raises(ValueError, match="Linear has no convolution"):
        first_layer_filters(nn.Linear(3, 5))


def test_the_figure_shows_each_filter_around_middle_gray():
    filters = torch.randn(7, 3, 5, 5)
    filters[2] = 0
    figure = plot_filters(filters, title="a$b$")
    figure.canvas.draw()
    shown = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    assert len(shown) == 7
    expected = (filters[1].permute(1, 2, 0) / filters[1].abs().max() + 1) / 2
    np.testing.assert_allclose(shown[1], expected, rtol=1e-6)
    assert (np.asarray(shown[2]) == 0.5).all()
    assert figure.get_suptitle() == "a$b$"
    assert [panel.images[0].get_array().ndim for panel in plot_filters(torch.randn(1, 2, 5, 5)).axes] == [2]


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one or more"):
        plot_filters(torch.randn(0, 3, 5, 5))
