"""Changes to a batch at once: fixed ones equal the host's pixel by pixel, random ones have its distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch.overrides import TorchFunctionMode

from vitlab.data import batch_colors as colors
from vitlab.data import batch_geometry as geometry
from vitlab.data.batch_augmentation import RAND_AUGMENT, BatchAugmentation
from vitlab.data.transforms import _RAND_AUGMENT, Augmentation

HEIGHT, WIDTH, BATCH = 11, 13, 7


@pytest.fixture(scope="module")
def pixels():
    """Noise of different contrast; the first image has one color, the second is dark."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[0] = (50, 90, 20)
    pixels[1] //= 3
    return pixels


@pytest.fixture(scope="module")
def host(pixels):
    """albumentations' functions, each applied to every image with a number of its own."""
    import albucore
    from albumentations.augmentations.pixel import functional

    def apply(name, numbers, *more):
        function = getattr(functional, name, None) or getattr(albucore, name)
        return np.stack([function(image, number, *more) for image, number in zip(pixels, numbers, strict=True)])

    return apply


def as_batch(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def distance(ours, theirs):
    return np.abs(ours.permute(0, 2, 3, 1).numpy().astype(int) - theirs.astype(int))


FACTORS = [0.3, 0.55, 0.8, 1.05, 1.3, 1.55, 1.8]


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_posterize_equals_the_hosts(pixels, host, bits):
    assert not distance(colors.posterized(as_batch(pixels), bits), host("posterize", [bits] * BATCH)).any()


def test_solarize_equals_the_hosts(pixels, host):
    thresholds = [0.11, 0.23, 0.37, 0.51, 0.67, 0.83, 0.97]
    assert not distance(
        colors.solarized(as_batch(pixels), torch.tensor(thresholds)), host("solarize", thresholds)
    ).any()


def test_scaling_equals_the_hosts(pixels, host):
    ours = colors.scaled(as_batch(pixels), torch.tensor(FACTORS), torch.full((BATCH,), -20.0))
    assert not distance(ours, host("multiply_add", FACTORS, -20.0, False)).any()


def test_equalize_is_the_hosts_up_to_rounding_and_leaves_a_plain_image_alone(pixels, host):
    ours = colors.equalized(as_batch(pixels))
    difference = distance(ours, host("equalize", [None] * BATCH))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert torch.equal(ours[0], as_batch(pixels)[0])


def test_padded_crops_are_windows_of_the_mirrored_image(pixels):
    images = as_batch(pixels)
    top, left = torch.rand(2, BATCH, generator=torch.Generator().manual_seed(1))
    crops = geometry.padded_crop(images, 3, top, left)
    padded = np.pad(pixels, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    for crop, whole, y, x in zip(crops, padded, (top * 7).int(), (left * 7).int(), strict=True):
        assert np.array_equal(crop.permute(1, 2, 0).numpy(), whole[y : y + HEIGHT, x : x + WIDTH])


def test_turning_shearing_and_shifting_move_what_they_should():
    images = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 6] = 255  # two right of the center
    quarter = geometry.affine(images, geometry.rotation(torch.tensor([90.0, -90.0])))
    assert sorted(map(tuple, quarter[:, 0].nonzero()[:, 1:].tolist())) == [(2, 4), (6, 4)]
    moved = geometry.affine(images, geometry.shift(torch.tensor([1.9, -1.9]), torch.tensor([-2.0, 0.0])))
    assert moved[:, 0].nonzero().tolist() == [[0, 2, 7], [1, 4, 5]]
    sheared = geometry.affine(images, geometry.shear(torch.zeros(2), torch.tensor([45.0, -45.0])))
    assert sorted(map(tuple, sheared[:, 0].nonzero()[:, 1:].tolist())) == [(2, 6), (6, 6)]


EVERYTHING = {
    "crop_padding": 2,
    "horizontal_flip": True,
    "rand_augment_ops": 2,
    "color_jitter": 0.3,
    "erasing": 0.4,
    "random_resized_crop_scale": 0.5,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_padding": 3},
        {"horizontal_flip": True},
        {"random_resized_crop_scale": 0.3},
        {"color_jitter": 0.4},
        {"rand_augment_ops": 1, "rand_augment_magnitude": 0.9},
        {"rand_augment_ops": 3},
        {"erasing": 0.5},
        EVERYTHING,
    ],
    ids=lambda settings: "+".join(settings),
)
def test_the_distribution_is_the_hosts(settings):
    """Mean, spread and the four corners' brightness over two thousand changed copies of one image."""
    rng = np.random.default_rng(3)
    image = np.clip(rng.normal(110, 50, (HEIGHT, WIDTH, 3)) + np.linspace(-60, 60, WIDTH)[:, None], 0, 255).astype(
        np.uint8
    )
    copies = np.repeat(image[None], 2000, axis=0)
    augmentation = Augmentation(**settings)
    theirs = augmentation(copies, 11).astype(float)
    ours = BatchAugmentation(augmentation)(as_batch(copies), 12).permute(0, 2, 3, 1).numpy().astype(float)
    standard_error = np.sqrt((theirs.var(axis=0) + ours.var(axis=0)) / len(copies))
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) < 5 * standard_error + 1.5).all()
    assert np.allclose(theirs.std(axis=0), ours.std(axis=0), rtol=0.15, atol=3)
    halves = (np.s_[:, :5, :6], np.s_[:, 5:, 6:])
    for part in [np.s_[:], *halves]:
        for measure in (np.mean, np.std):
            found = [measure(batch[part], axis=(1, 2, 3)) for batch in (theirs, ours)]
            # Rounding moves whole groups of equal values by a little: only distances that one could see count.
            assert ks_2samp(*(np.round(values / 4) for values in found)).pvalue > 1e-4


@pytest.mark.parametrize("index", range(len(RAND_AUGMENT)))
def test_each_operation_of_rand_augment_is_as_strong_as_the_hosts(index):
    import albumentations

    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[3:9, 2:8] = (240, 160, 60)
    image[2:5, 7:11] += np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 5
    copies = np.repeat(image[None], 1500, axis=0)
    pipeline = albumentations.Compose([_RAND_AUGMENT[index](albumentations, 0.7)], seed=5)
    theirs = np.stack([pipeline(image=copy)["image"] for copy in copies])
    strengths = 2 * torch.rand(len(copies), generator=torch.Generator().manual_seed(2)) - 1
    ours = RAND_AUGMENT[index](as_batch(copies), strengths, 0.7).permute(0, 2, 3, 1).numpy()
    sorted_values = [np.sort(batch.reshape(len(copies), -1).astype(float), axis=0) for batch in (theirs, ours)]
    # Of each pixel: how far its two distributions lie apart, in steps of 255 (1500 copies leave about 5 to chance).
    assert np.abs(sorted_values[0] - sorted_values[1]).mean(axis=0).max() < 11


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(pixels):
    augment = BatchAugmentation(Augmentation(**EVERYTHING))
    images = as_batch(pixels)
    assert torch.equal(augment(images, 2**64 - 1), augment(images, 2**64 - 1))
    assert not torch.equal(augment(images, 5), augment(images, 6))


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay_and_the_images_given_are_not_changed(pixels, channels):
    images = as_batch(pixels)[:, :channels]
    before = images.clone()
    changed = BatchAugmentation(Augmentation(**EVERYTHING))(images, 3)
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)


def test_images_of_one_batch_are_changed_differently(pixels):
    copies = as_batch(np.repeat(pixels[2:3], 64, axis=0))
    changed = BatchAugmentation(Augmentation(crop_padding=4, horizontal_flip=True))(copies, 0)
    assert len({image.numpy().tobytes() for image in changed}) > 40


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_padding": 3},
        {"horizontal_flip": True},
        {"random_resized_crop_scale": 0.3},
        {"color_jitter": 0.4},
        {"rand_augment_ops": 12},
        {"erasing": 0.5},
        EVERYTHING,
    ],
    ids=lambda settings: "+".join(settings),
)
def test_no_change_waits_for_the_device(pixels, settings):
    """The meta device has no values: what asked it for one, or mixed it with the host's tensors, would fail."""
    images = as_batch(pixels).to("meta")
    with _NothingIsCopiedAtOnce():
        changed = BatchAugmentation(Augmentation(**settings))(images, 3)
    assert (changed.shape, changed.dtype, changed.device.type) == (images.shape, torch.uint8, "meta")


class _NothingIsCopiedAtOnce(TorchFunctionMode):
    """Refuses copies to a device that the host would wait for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in (torch.tensor, torch.as_tensor):
            assert result.is_cpu, "values that Python holds must not be copied to the device"
        if function is torch.Tensor.to and result.device != args[0].device:
            assert kwargs.get("non_blocking"), "a copy to the device must not be waited for"
        return result


@pytest.mark.parametrize("copy", [lambda: torch.ones(2).to("meta"), lambda: torch.tensor([2.0], device="meta")])
def test_copies_that_are_waited_for_are_noticed(copy):
    with _NothingIsCopiedAtOnce(), pytest.raises(AssertionError, match="must not be"):
        copy()


@pytest.mark.parametrize(
    "setting",
    [{"crop_padding": 3}, {"horizontal_flip": True}, {"random_resized_crop_scale": 0.3}, {"color_jitter": 0.4}],
    ids=str,
)
def test_images_that_lie_channels_last_stay_so(pixels, setting):
    changed = BatchAugmentation(Augmentation(**setting))(as_batch(pixels), 3)
    assert changed.is_contiguous(memory_format=torch.channels_last)
