import csv
import io

import pytest
import torch
from torch import nn

from vitlab.inspection import CORRUPTIONS, ProbeRow, robustness_table, table_as_csv, table_as_markdown
from vitlab.models import ResNet, ResNetShape, ViT, ViTShape


class BrighterHalf(nn.Module):
    """Class 1 if the right half is brighter than the left."""

    def forward(self, images):
        left, right = images.chunk(2, dim=3)
        return torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], dim=1)


def half_images(count=11):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 100, (count, 3, 16, 24), dtype=torch.uint8, generator=generator)
    for image, label in zip(images, labels, strict=True):
        image[:, :, 12 * label : 12 * label + 12] += 100
    return images, labels


def find(rows, probe, level):
    (row,) = (row for row in rows if (row.probe, row.level) == (probe, level))
    return row


def test_two_models_stand_side_by_side_in_every_probe():
    images, labels = half_images()
    saliency = torch.rand(11, 16, 24)
    models = {"half": BrighterHalf(), "always 0": _Always()}
    rows = robustness_table(models, images, labels, saliency=saliency)
    assert {tuple(row.values) for row in rows} == {("half", "always 0")}
    assert all(row.num_images == 11 for row in rows)
    assert rows[0].probe == "none"
    assert rows[0].values == {"half": 1.0, "always 0": pytest.approx(6 / 11)}
    assert {row.values["always 0"] for row in rows if row.measure == "accuracy"} == {rows[0].values["always 0"]}
    shifts = [row for row in rows if row.probe == "shift"]
    assert [(row.level, row.measure, row.values["always 0"]) for row in shifts] == [
        (pixels, "agreement", 1.0) for pixels in (1, 2, 4)
    ]
    levels = {name: [row.level for row in rows if row.probe == name] for name in {row.probe for row in rows}}
    assert levels["patch_shuffle"] == [8, 4, 2]
    assert levels["patch_drop_random"] == levels["patch_drop_salient"] == [25, 50, 75]
    assert levels["occlusion"] == [4, 8]
    assert all(levels[name] == [1, 2, 3, 4, 5] for name in CORRUPTIONS)


class _Always(nn.Module):
    def forward(self, images):
        return torch.tensor([1.0, 0.0]).expand(len(images), 2)


def test_a_shuffle_costs_what_depends_on_layout_and_contrast_does_not():
    images, labels = half_images()
    rows = robustness_table({"half": BrighterHalf()}, images, labels)
    assert find(rows, "patch_shuffle", 2).values["half"] < 0.9
    assert find(rows, "contrast", 5).values["half"] == 1


def test_a_seed_repeats_the_table_and_batches_change_nothing():
    torch.manual_seed(0)
    images, labels = half_images()
    model = {"vit": ViT((16, 24), 2, patch_size=8, size=ViTShape(12, 1, 3, 12))}
    rows = robustness_table(model, images, labels, seed=1)
    assert rows == robustness_table(model, images, labels, seed=1, batch_size=5)


def test_each_model_sees_images_as_it_wants_them():
    images, labels = half_images()
    models = {"plain": BrighterHalf(), "mirrored": BrighterHalf()}
    normalize = {"plain": lambda pixels: pixels - 0.5, "mirrored": lambda pixels: pixels.flip(3)}
    row = robustness_table(models, images, labels, normalize)[0]
    assert row.values == {"plain": 1.0, "mirrored": 0.0}


def test_models_are_left_as_they_were():
    images, labels = half_images()
    model = ResNet(num_classes=2, size=ResNetShape([1], [8])).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    robustness_table({"resnet": model}, images, labels)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())


ROWS = [
    ProbeRow("none", 0, "", "accuracy", {"a|b": 1.0, "c,d": 0.5}, 8),
    ProbeRow("patch_drop_random", 50, "%", "accuracy", {"a|b": 0.25, "c,d": 0.125}, 8),
    ProbeRow("jpeg", 3, "severity", "accuracy", {"a|b": 0.875, "c,d": 0.0}, 8),
    ProbeRow("shift", 4, "px", "agreement", {"a|b": 0.5, "c,d": 1.0}, 8),
]


def test_markdown_has_a_line_for_each_probe_and_a_column_for_each_model():
    assert table_as_markdown(ROWS) == (
        "| probe | level | measure | a\\|b | c,d |\n"
        "|---|---|---|---:|---:|\n"
        "| none |  | accuracy | 100.0 % | 50.0 % |\n"
        "| patch drop random | 50 % | accuracy | 25.0 % | 12.5 % |\n"
        "| jpeg | severity 3 | accuracy | 87.5 % | 0.0 % |\n"
        "| shift | 4 px | agreement | 50.0 % | 100.0 % |\n"
    )


def test_csv_reads_back_as_it_was():
    rows = list(csv.DictReader(io.StringIO(table_as_csv(ROWS))))
    assert [float(row["c,d"]) for row in rows] == [0.5, 0.125, 0.0, 1.0]
    assert rows[2] | {"a|b": "0.875"} == rows[2]
    assert (rows[3]["probe"], rows[3]["level"], rows[3]["unit"]) == ("shift", "4", "px")
    assert (rows[3]["measure"], rows[3]["num_images"]) == ("agreement", "8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "there are no models to measure"),
        ({"images": torch.rand(11, 3, 16, 24)}, "images must be uint8"),
        ({"labels": torch.zeros(7, dtype=torch.long)}, r"one class for each of the 11 images, got \(7,\)"),
        ({"labels": torch.zeros(11)}, "labels must be whole numbers, got torch.float32"),
        ({"normalize": {"other": torch.relu}}, "normalize has no entry for 'half'"),
        ({"patch_size": 5}, "patch_size 5 does not divide images of 16 x 24"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    images, labels = half_images()
    with pytest.raises(ValueError, match=message):
        robustness_table(**{"models": {"half": BrighterHalf()}, "images": images, "labels": labels} | change)
