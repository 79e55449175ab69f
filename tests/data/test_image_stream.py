import numpy as np
import pytest

from vitlab.data.image_stream import bell_noise, below, image_stream


def drawn(count, split="train", seed=0):
    parts = list(image_stream(count, seed, split, num_choices=5, num_values=7))
    assert [part.start for part, _, _ in parts] == [0, *(part.stop for part, _, _ in parts[:-1])]
    return [np.concatenate(arrays) for arrays in zip(*(part[1:] for part in parts), strict=True)]


def test_larger_set_begins_with_the_smaller_whatever_the_chunk(monkeypatch):
    whole = drawn(101)
    monkeypatch.setattr("vitlab.data.image_stream.CHUNK_BYTES", 500)
    for one, two, first in zip(whole, drawn(101), drawn(37), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one[:37], first)


def test_numbers_are_pinned_for_every_machine_and_version():
    choices, noise_bytes = drawn(2, seed=3)
    assert choices.shape == (2, 6)
    assert choices[1, :3].tolist() == [1279050938, 1701146092, 1184830758]
    assert (noise_bytes.shape, noise_bytes.dtype) == ((2, 28), np.uint8)


def test_seeds_and_splits_give_other_numbers():
    kinds = [drawn(3, split, seed)[0].tobytes() for seed in (0, 1) for split in ("train", "test", "validation")]
    assert len(set(kinds)) == 6


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_every_number_below_the_limit_is_equally_likely(limit):
    values = below(np.linspace(0, 2**32 - 1, 50 * limit).astype(np.int64), limit)
    assert np.bincount(values).tolist() == pytest.approx([50] * limit, abs=1)


def test_noise_has_the_deviation_asked_for_and_no_mean():
    noise_bytes = np.random.default_rng(0).integers(0, 256, (101, 4 * 503), dtype=np.uint8)
    noise = bell_noise(noise_bytes, 0.1)
    assert noise.shape == (101, 503)
    assert abs(noise.std() - 25.5) < 0.3
    assert abs(noise.mean()) < 1  # of 255; rounding down costs half of it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0, "val"), "unknown split 'val'; use one of train, test"),
        ((1, -1, "train"), "seed -1"),
        ((-1, 0, "test"), "-1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        list(image_stream(*arguments, 1, 1))
