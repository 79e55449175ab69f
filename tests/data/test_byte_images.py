"""Bytes to floats and back, and batches in parts."""

import pytest
import torch

from vitlab.data import byte_images


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 5, 11, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def test_planes_and_back_is_the_same_with_each_pixels_channels_side_by_side(images):
    planes = byte_images.as_planes(images)
    assert planes.is_contiguous()
    back = byte_images.as_interleaved_bytes(planes)
    assert torch.equal(back, images)
    assert back.is_contiguous(memory_format=torch.channels_last)


def test_what_lies_behind_the_point_is_left_out_or_rounded():
    values = torch.arange(0, 255.01, 0.25)
    assert torch.equal(byte_images.as_bytes(values), values.floor().to(torch.uint8))
    rounded = byte_images.as_interleaved_bytes(values.view(1, 1, 1, -1).clone())
    assert torch.equal(rounded.view(-1), values.round().to(torch.uint8))


@pytest.mark.parametrize("num_floats", [1, 165, 400, 10**6])
def test_parts_come_together_in_order_each_with_its_rows(images, num_floats, monkeypatch):
    monkeypatch.setattr(byte_images, "_PART_FLOATS", num_floats)
    sizes = []

    def change(part, numbers):
        sizes.append(len(part))
        return part + numbers.view(-1, 1, 1, 1)

    numbers = torch.arange(7, dtype=torch.uint8)
    assert torch.equal(byte_images.in_parts(change, images, numbers), images + numbers.view(-1, 1, 1, 1))
    assert sum(sizes) == 7
    assert len(sizes) == min(7, -(-images.numel() // num_floats))
