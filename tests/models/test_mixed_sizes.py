import inspect
from functools import partial

import pytest
import torch

import vitlab.attention
from vitlab.attention import (
    ALiBi2D,
    Causal,
    Grid,
    KernelFeatures,
    Position,
    Proportional,
    QuadraticRelative,
    RelativeBias2D,
    RoPE2D,
    SelfAttention,
    Window1D,
    Window2D,
    windows,
)
from vitlab.models import ClassifierHead, ConvStem, ViT, ViTShape
from vitlab.models.mixed_sizes import embed_mixed_sizes

SHAPE = ViTShape(dim=20, depth=3, num_heads=5, mlp_dim=13, num_register_tokens=2)
SIZES = [(8, 12), (28, 20), (8, 12), (12, 44)]
ON_TOKENS = [
    cls
    for cls in (getattr(vitlab.attention, name) for name in vitlab.attention.__all__)
    if inspect.isclass(cls)
    and issubclass(cls, Position)
    and not inspect.isabstract(cls)
    and list(inspect.signature(cls).parameters)[:2] == ["dim", "grid"]
]


def make(**options):
    torch.manual_seed(0)
    return ViT(image_size=[12, 20], num_classes=7, in_channels=2, patch_size=4, size=SHAPE, **options).eval()


def images_of(sizes=SIZES):
    torch.manual_seed(1)
    return [torch.randn(2, *size) for size in sizes]


def check(model):
    """Logits and gradients of an image in company are those of the image alone."""
    images = [image.requires_grad_() for image in images_of()]
    together = model(images)
    assert together.shape[0] == len(images)
    for index, image in enumerate(images):
        torch.testing.assert_close(together[index], model(image[None])[0], atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(together[1].square().sum(), images)
    assert [bool((gradient != 0).any()) for gradient in gradients] == [False, True, False, False]
    (alone,) = torch.autograd.grad(model(images[1][None]).square().sum(), images[1])
    torch.testing.assert_close(gradients[1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("position", ON_TOKENS)
def test_an_image_gives_the_same_alone_and_in_company_with_every_position_on_tokens(position):
    check(make(position=position))


@pytest.mark.parametrize("pooling", ["class_token", "mean", "mean_then_norm", "attention"])
def test_an_image_gives_the_same_with_every_pooling(pooling):
    check(make(head=partial(ClassifierHead, pooling=pooling, num_heads=5)))


@pytest.mark.parametrize(
    "parts",
    [
        {"pattern": Window2D(3)},
        {"pattern": Window2D(3, 2), "position": QuadraticRelative},
        {"pattern": Causal(), "position": RoPE2D},
        {"position": ALiBi2D},
        {"position": partial(RelativeBias2D, reach=4), "pattern": Window2D(5)},
        {"score": KernelFeatures, "normalizer": Proportional()},
        {"score": KernelFeatures, "normalizer": Proportional(), "pattern": Causal()},
        *({"normalizer": getattr(vitlab.attention, name)()} for name in ("Relu", "Sigmoid", "Sparsemax")),
    ],
)
@pytest.mark.parametrize("tile", [1, 8])
def test_an_image_gives_the_same_whatever_its_attention(parts, tile, monkeypatch):
    monkeypatch.setattr(windows, "TILE_2D", tile)
    check(make(attention=partial(SelfAttention, **parts), head=partial(ClassifierHead, pooling="mean")))


def test_a_class_token_that_sees_no_patch_is_refused():
    with pytest.raises(ValueError, match="class token comes first, and Causal hides all patches from it; use a head"):
        make(attention=partial(SelfAttention, pattern=Causal()))


def test_a_convolutional_tokenizer_sees_no_company_either():
    check(make(tokenizer=ConvStem))


def test_intermediates_come_with_mixed_sizes_too():
    model = make()
    kept = model.forward_intermediates(images_of())
    torch.testing.assert_close(kept.logits, model(images_of()))
    assert kept.grid == Grid(7, 11, num_prefix_tokens=3)


def test_images_of_one_size_in_a_list_are_a_batch():
    images = images_of([(8, 12)] * 3)
    for options in ({}, {"attention": partial(SelfAttention, position=RelativeBias2D)}):  # nothing is padded
        model = make(**options)
        torch.testing.assert_close(model(images), model(torch.stack(images)), atol=1e-6, rtol=1e-6)


def test_what_depends_on_the_size_of_the_grid_is_refused():
    with pytest.raises(ValueError, match="Window1D depends on the size of the grid, so padding would change"):
        make(attention=partial(SelfAttention, pattern=Window1D(3)))(images_of())
    with pytest.raises(ValueError, match="RelativeBias2D depends on the size of the grid"):
        make(attention=partial(SelfAttention, position=RelativeBias2D))(images_of())


def test_what_is_no_list_of_images_is_refused():
    model = make()
    with pytest.raises(ValueError, match="needs at least one image, got none"):
        model([])
    with pytest.raises(ValueError, match=r"image 1 is \(1, 2, 8, 12\); give a list of images"):
        model([torch.randn(2, 8, 12), torch.randn(1, 2, 8, 12)])
    with pytest.raises(ValueError, match="patch_size 4 does not divide image_size 8 x 13"):
        model([torch.randn(2, 8, 12), torch.randn(2, 8, 13)])


def test_tokens_lie_in_the_top_left_corner():
    def embed(images):
        height, width = images.shape[-2:]
        return images.flatten(2).transpose(1, 2), Grid(height, width)

    small, large = torch.full((1, 2, 3), 1.0), torch.full((1, 3, 2), 2.0)
    tokens, grid, visible = embed_mixed_sizes([small, large], embed)
    assert grid == Grid(3, 3)
    assert tokens[0, :, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert tokens[1, :, 0].tolist() == [2, 2, 0, 2, 2, 0, 2, 2, 0]
    assert torch.equal(visible, tokens[..., 0] != 0)
