import pytest
import torch
from timm.layers import PatchEmbed

from vitlab.attention import Grid
from vitlab.models import ConvStem, PatchTokenizer, PixelTokenizer

TOKENIZERS = [(PatchTokenizer, 1), (PatchTokenizer, 7), (PixelTokenizer, 1), (ConvStem, 2), (ConvStem, 8)]


@pytest.mark.parametrize(("tokenizer", "patch_size"), TOKENIZERS)
def test_tokens_are_as_many_as_the_grid_says(tokenizer, patch_size):
    made = tokenizer(5, 24, patch_size)
    height, width = 3 * patch_size, 2 * patch_size
    assert made.grid(height, width) == Grid(3, 2)
    assert made(torch.randn(2, 5, height, width)).shape == (2, 6, 24)


@pytest.mark.parametrize(("tokenizer", "patch_size"), [(PatchTokenizer, 1), (PatchTokenizer, 7), (PixelTokenizer, 1)])
def test_a_token_sees_its_own_patch_alone_and_tokens_come_row_by_row(tokenizer, patch_size):
    images = torch.zeros(1, 5, 3 * patch_size, 2 * patch_size, requires_grad=True)
    tokens = tokenizer(5, 11, patch_size)(images)
    for row in range(3):
        for column in range(2):
            (gradient,) = torch.autograd.grad(tokens[0, row * 2 + column].sum(), images, retain_graph=True)
            seen = gradient[0].abs().sum(0) > 0
            expected = torch.zeros_like(seen)
            expected[row * patch_size : (row + 1) * patch_size, column * patch_size : (column + 1) * patch_size] = True
            assert torch.equal(seen, expected)


@pytest.mark.parametrize("bias", [True, False])
def test_patches_equal_timm_patch_embed(bias):
    theirs = PatchEmbed(img_size=(21, 14), patch_size=7, in_chans=5, embed_dim=11, bias=bias)
    ours = PatchTokenizer(5, 11, 7, bias=bias)
    ours.projection.load_state_dict(theirs.proj.state_dict())
    images = torch.randn(2, 5, 21, 14)
    torch.testing.assert_close(ours(images), theirs(images))


def test_pixels_equal_patches_of_one_pixel():
    pixels, patches = PixelTokenizer(5, 11), PatchTokenizer(5, 11, 1)
    patches.projection.weight.data.copy_(pixels.projection.weight[:, :, None, None])
    patches.projection.bias.data.copy_(pixels.projection.bias)
    images = torch.randn(2, 5, 3, 7)
    torch.testing.assert_close(pixels(images), patches(images))


def test_the_conv_stem_overlaps_doubles_its_channels_and_keeps_the_rows_apart():
    stem = ConvStem(5, 24, 8).eval()
    assert [layer.out_channels for layer in stem.stem if isinstance(layer, torch.nn.Conv2d)] == [6, 12, 24, 24]
    images = torch.randn(1, 5, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(stem(images)[0, 3 * 8 + 4].sum(), images)
    rows, columns = (gradient[0].abs().sum(0) > 0).nonzero().unbind(1)
    # 1 + 2 + 4 = 7 pixels around the stride-8 center at (24, 32); ReLUs may switch off a few.
    assert rows.min() >= 17
    assert rows.max() <= 31
    assert columns.min() >= 25
    assert columns.max() <= 39
    assert len(rows.unique()) > 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: PatchTokenizer(3, 8, 7).grid(32, 32),
            "patch_size 7 does not divide image_size 32; use 1, 2, .* 16 or 32",
        ),
        (lambda: PatchTokenizer(3, 8, 4).grid(8, 10), "patch_size 4 does not divide image_size 8 x 10; use 1 or 2"),
        (lambda: PatchTokenizer(3, 8, 4).grid(0, 8), "does not divide"),
        (lambda: PatchTokenizer(0, 8, 4), "must be 1 or more, got 0, 8 and 4"),
        (lambda: PixelTokenizer(3, 8, 4), "patch_size must be 1, got 4"),
        (lambda: ConvStem(3, 8, 6), "must be 2, 4, 8, ..., got 6"),
        (lambda: ConvStem(3, 8, 1), "must be 2, 4, 8, ..., got 1"),
        (lambda: ConvStem(3, 9, 4), "needs a dim that 2 divides, got 9"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
