import pytest
import torch
from torch import nn

from vitlab.inspection import (
    drop_patches,
    occlude,
    predict_classes,
    shift_consistency,
    shift_images,
    shuffle_patches,
)

# Every number is different, so that a pixel can be found again.
IMAGES = torch.arange(5.0 * 2 * 12 * 20).reshape(5, 2, 12, 20)


def patches(images, size):
    cut = images.unfold(2, size, size).unfold(3, size, size)  # (batch, channels, rows, columns, size, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)


def test_shuffling_keeps_every_patch_and_moves_them():
    shuffled = shuffle_patches(IMAGES, 4)
    assert shuffled.shape == IMAGES.shape
    before, after = patches(IMAGES, 4), patches(shuffled, 4)
    assert not torch.equal(before, after)
    order = after[:, :, 0].argsort(1)  # numbers rise from patch to patch
    assert torch.equal(after.gather(1, order[:, :, None].expand_as(after)), before[:, before[0, :, 0].argsort()])


def test_each_image_is_shuffled_in_its_own_way_and_a_seed_repeats_it():
    shuffled = shuffle_patches(IMAGES, 4, seed=3)
    orders = patches(shuffled, 4)[:, :, 0].argsort(1)
    assert len(orders.unique(dim=0)) == 5
    assert torch.equal(shuffled, shuffle_patches(IMAGES, 4, seed=3))
    assert not torch.equal(shuffled, shuffle_patches(IMAGES, 4, seed=4))


def test_one_patch_cannot_be_shuffled():
    assert torch.equal(shuffle_patches(IMAGES[..., :12], 12), IMAGES[..., :12])


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.2, 3), (1, 15)])
def test_the_share_of_patches_is_covered_with_the_mean_color(share, count):
    dropped = drop_patches(IMAGES, 4, share)
    covered = dropped != IMAGES
    assert (patches(covered.float(), 4).sum(-1) > 0).sum(1).tolist() == [count] * 5
    mean = IMAGES.mean((0, 2, 3))[None, :, None, None].expand_as(IMAGES)
    torch.testing.assert_close(dropped[covered], mean[covered])


def test_a_larger_share_covers_what_a_smaller_one_does():
    smaller, larger = (drop_patches(IMAGES, 4, share, seed=7) != IMAGES for share in (0.2, 0.6))
    assert (larger | ~smaller).all()
    assert len(smaller[:, 0].flatten(1).unique(dim=0)) > 1


def test_the_patches_that_matter_most_are_dropped_first():
    saliency = torch.rand(5, 12, 20)
    saliency[:, 4:8, 16:] += 5
    covered = drop_patches(IMAGES, 4, 1 / 15, saliency) != IMAGES
    expected = torch.zeros_like(covered)
    expected[:, :, 4:8, 16:] = True
    assert torch.equal(covered, expected)


def test_bytes_stay_bytes():
    images = torch.randint(0, 256, (3, 2, 12, 20), dtype=torch.uint8)
    for changed in (
        shuffle_patches(images, 4),
        drop_patches(images, 4, 0.5),
        occlude(images, 5),
        shift_images(images, 1, 1),
    ):
        assert changed.dtype == torch.uint8


def test_one_square_of_the_size_is_covered_anywhere():
    images = torch.arange(2000.0 * 12 * 20).reshape(2000, 1, 12, 20)
    covered = (occlude(images, 5) != images)[:, 0]
    assert (covered.sum((1, 2)) == 25).all()
    rows, columns = covered.any(2), covered.any(1)
    assert (rows.sum(1) == 5).all()
    assert (columns.sum(1) == 5).all()
    assert covered.any(0).all()
    assert torch.equal(occlude(images, 5, seed=2), occlude(images, 5, seed=2))


def test_a_shift_moves_pixels_and_repeats_the_border():
    moved = shift_images(IMAGES, 2, -3)
    assert torch.equal(moved[:, :, 2:, :-3], IMAGES[:, :, :-2, 3:])
    assert torch.equal(moved[:, :, 0], moved[:, :, 2])
    assert torch.equal(moved[..., -1], moved[..., -4])
    assert torch.equal(shift_images(IMAGES, 0, 0), IMAGES)


class BrightestColumn(nn.Module):
    def forward(self, images):
        return images.mean((1, 2))


def column_images(dtype):
    images = torch.zeros(4, 2, 12, 20, dtype=dtype)
    for index, column in enumerate((3, 9, 10, 16)):
        images[index, :, :, column] = 1
    return images


def test_consistency_counts_the_images_that_keep_their_class_in_any_direction():
    # Up and down, a bright column stays where it is; left and right, it never does.
    assert shift_consistency(BrightestColumn(), column_images(torch.float32), 2) == 0.5
    assert shift_consistency(BrightestColumn(), column_images(torch.float32), 0) == 1
    assert shift_consistency(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), column_images(torch.float32), 2) == 1


def test_predictions_are_made_of_normalized_images_in_evaluation_mode():
    model = nn.Sequential(BrightestColumn(), nn.Dropout(0.99)).train()
    images = column_images(torch.uint8) * 255
    assert predict_classes(model, images, batch_size=3).tolist() == [3, 9, 10, 16]
    seen = []
    predict_classes(model, images, normalize=lambda pixels: seen.append(pixels) or pixels)
    assert seen[0].max() == 1
    assert predict_classes(model, images, normalize=lambda pixels: pixels.flip(3)).tolist() == [16, 10, 9, 3]
    assert model.training


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shuffle_patches(IMAGES, 5), "patch_size 5 does not divide images of 12 x 20 pixels"),
        (lambda: drop_patches(IMAGES, 0, 0.5), "patch_size 0 does not divide"),
        (lambda: drop_patches(IMAGES, 4, 1.5), "share must be 0 to 1, got 1.5"),
        (
            lambda: drop_patches(IMAGES, 4, 0.5, torch.rand(5, 20, 12)),
            r"saliency must be \(5, 12, 20\), .* \(5, 20, 12\)",
        ),
        (lambda: occlude(IMAGES, 13), "size_px must be 1 to 12, got 13"),
        (lambda: shift_consistency(BrightestColumn(), IMAGES, 12), "shift_px must be 0 to 11, got 12"),
        (lambda: predict_classes(nn.Identity(), IMAGES), r"must give logits \(batch, classes\), got \(5, 2, 12, 20\)"),
    ],
)
def test_what_cannot_be_probed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
