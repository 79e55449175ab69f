import itertools

import pytest
import torch
import torch.nn.functional as F

from vitlab.inspection import CORRUPTIONS, corrupt

RANDOM = {"gaussian_noise", "shot_noise", "motion_blur"}
SEVERITIES = (1, 2, 3, 4, 5)


def pictures(height=32, width=48, channels=3, count=7):
    coarse = torch.rand(count, channels, 5, 7, generator=torch.Generator().manual_seed(0))
    fine = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    return (255 * (0.9 * smooth + 0.1 * fine).clamp(0, 1)).to(torch.uint8)


def distortion(images, corruption, severity):
    return (corrupt(images, corruption, severity).float() - images.float()).abs().mean().item()


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_each_severity_distorts_more_than_the_one_before(corruption):
    distortions = [distortion(pictures(), corruption, severity) for severity in SEVERITIES]
    assert distortions == sorted(distortions)
    assert distortions[0] > 0
    assert distortions[4] > 1.2 * distortions[0]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("size", [(16, 16), (13, 29), (67, 71)])
def test_no_severity_distorts_less_on_other_sizes(corruption, size):
    distortions = [distortion(pictures(*size), corruption, severity) for severity in SEVERITIES]
    # A blur or a pixel of half the size moves by whole pixels, so that neighbors may tie.
    assert all(later >= 0.93 * earlier for earlier, later in itertools.pairwise(distortions))
    assert distortions[4] > distortions[0]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_shape_dtype_and_the_images_themselves_are_kept(corruption, channels):
    images = pictures(13, 17, channels)
    before = images.clone()
    corrupted = corrupt(images, corruption, 3)
    assert (corrupted.shape, corrupted.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_seed_repeats_and_another_differs_where_something_is_random(corruption):
    images = pictures()
    first = corrupt(images, corruption, 4, seed=1)
    assert torch.equal(first, corrupt(images, corruption, 4, seed=1))
    assert torch.equal(first, corrupt(images, corruption, 4, seed=2)) == (corruption not in RANDOM)


@pytest.mark.parametrize("corruption", sorted(CORRUPTIONS.keys() - {"gaussian_noise", "shot_noise", "brightness"}))
def test_an_even_gray_stays_as_it_is(corruption):
    images = torch.full((2, 3, 24, 40), 128, dtype=torch.uint8)
    assert (corrupt(images, corruption, 5).int() - 128).abs().max() <= 1


def test_noise_is_as_strong_as_it_says():
    gray = torch.full((5, 3, 64, 64), 128, dtype=torch.uint8)
    assert corrupt(gray, "gaussian_noise", 5).float().std() / 255 == pytest.approx(0.10, rel=0.03)
    photons = 50 * 128 / 255
    assert corrupt(gray, "shot_noise", 5).float().std() / 255 == pytest.approx(photons**0.5 / 50, rel=0.03)


def test_brightness_raises_the_largest_channel_and_keeps_hue():
    color = torch.tensor([100, 50, 25], dtype=torch.uint8)[None, :, None, None]
    raised = corrupt(color.expand(1, 3, 8, 8).contiguous(), "brightness", 3)[0, :, 0, 0]
    assert raised[0] == round(100 + 0.15 * 255)
    torch.testing.assert_close(raised / raised[0], torch.tensor([1, 0.5, 0.25]), atol=0.01, rtol=0)
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert (corrupt(black, "brightness", 3) == round(0.15 * 255)).all()


def test_contrast_draws_pixels_to_the_mean():
    images = torch.tensor([50, 150], dtype=torch.uint8).expand(1, 1, 4, 2).contiguous()
    assert corrupt(images, "contrast", 2)[0, 0, 0].tolist() == [75, 125]


def test_blur_spreads_a_point_and_keeps_its_light():
    point = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    point[0, 0, 28:32, 30:34] = 255
    for corruption in ("gaussian_blur", "motion_blur"):
        blurred = corrupt(point, corruption, 5)
        assert blurred.sum().item() == pytest.approx(point.sum().item(), rel=0.05)
        assert (blurred > 0).sum() > 2 * (point > 0).sum()


def test_motion_goes_its_own_way_in_each_image_and_mostly_sideways():
    point = torch.zeros(200, 1, 64, 64, dtype=torch.uint8)
    point[:, :, 30:33, 30:33] = 255
    blurred = corrupt(point, "motion_blur", 5)
    assert len(blurred.flatten(1).unique(dim=0)) > 50
    rows, columns = (blurred > 10).any(3).sum(), (blurred > 10).any(2).sum()
    assert columns > 1.2 * rows


def test_all_channels_of_an_image_move_alike():
    gray = pictures(channels=1)
    blurred = corrupt(gray.expand(-1, 3, -1, -1).contiguous(), "motion_blur", 5)
    assert torch.equal(blurred, corrupt(gray, "motion_blur", 5).expand_as(blurred))


@pytest.mark.parametrize(("side", "std"), [(32, 1.0), (96, 3.0)])
def test_a_blur_is_as_wide_as_the_image_asks_for(side, std):
    line = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    line[..., side // 2] = 255
    profile = corrupt(line, "gaussian_blur", 5)[0, 0, 0].double()
    distances = torch.arange(side) - side // 2
    measured = ((profile * distances**2).sum() / profile.sum()).sqrt()
    assert measured == pytest.approx(std, rel=0.04)


@pytest.mark.parametrize(
    ("images", "corruption", "severity", "message"),
    [
        (torch.rand(2, 3, 8, 8), "jpeg", 1, "images must be uint8, .* got torch.float32 .* before they are normalized"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "jpeg", 1, r"got torch.uint8 \(3, 8, 8\)"),
        (pictures(), "fog", 1, "unknown corruption 'fog'; use one of gaussian_noise, shot_noise"),
        (pictures(), "jpeg", 0, "severity must be 1, 2, 3, 4 or 5, got 0"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(images, corruption, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, corruption, severity)
