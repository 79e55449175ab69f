import csv
import io
from functools import partial

import pytest
import torch
from PIL import Image

from vitlab.inspection.measures import KINDS, Subject, check_kinds, write_measures
from vitlab.models import ClassifierHead, ResNet, ViT, ViTShape


def scaled(images):
    return images.float() / 127.5 - 1


@pytest.fixture(scope="module")
def subjects():
    torch.manual_seed(0)
    shape = ViTShape(dim=20, depth=3, num_heads=5, mlp_dim=13)
    vit = ViT(16, 3, 3, 4, shape, head=partial(ClassifierHead, pooling="mean")).eval()
    cnn = ResNet(16, 3, size="micro").eval()
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    return [Subject("ViT", vit, images, scaled), Subject("CNN", cnn, images, scaled)]


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_every_measure_has_its_table_and_figure(subjects, tmp_path):
    with torch.no_grad():  # classes that the ViT gets right while its input is normalized, and wrong in one image
        labels = subjects[0].model(subjects[0].inputs).argmax(1)
    labels[7] = (labels[7] + 1) % 3
    files = write_measures(list(KINDS), subjects, tmp_path, labels)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in files}
    assert names == {f"{kind}.csv" for kind in KINDS} | {"distance.png", "erf.png", "cka.png"}
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.size[0] > 300
    distances = rows(tmp_path / "distance.csv")
    assert [(row["model"], row["layer"], row["head"]) for row in distances] == [
        ("ViT", str(layer), str(head)) for layer in range(3) for head in range(5)
    ]
    assert all(0 < float(row["distance_px"]) < 16 * 2**0.5 for row in distances)
    assert [row["model"] for row in rows(tmp_path / "erf.csv")] == ["ViT", "CNN"]
    similarity = rows(tmp_path / "cka.csv")
    assert len(similarity) == 3 * len({row["layer of CNN (columns)"] for row in similarity})
    for subject in subjects:
        with torch.no_grad():
            right = subject.model(subject.inputs).argmax(1) == labels
        unchanged = rows(tmp_path / "robustness.csv")[0]
        assert float(unchanged[subject.name]) == pytest.approx(right.double().mean().item())


def test_distance_is_that_of_the_capture(subjects, tmp_path):
    from vitlab.inspection import capture, mean_attention_distance

    write_measures(["distance"], subjects[:1], tmp_path)
    vit = subjects[0]
    with torch.no_grad(), capture(vit.model) as record:
        vit.model(vit.inputs)
    expected = [mean_attention_distance(weights, record.layers[0].grid, 4) for weights in record.weights]
    found = [float(row["distance_px"]) for row in rows(tmp_path / "distance.csv")]
    assert found == pytest.approx(torch.cat(expected).tolist(), abs=1e-3)


def test_a_model_beside_itself_is_alike_on_the_diagonal(subjects, tmp_path):
    write_measures(["cka"], subjects[:1], tmp_path)
    for row in rows(tmp_path / "cka.csv"):
        a, b, value = row.values()
        assert a != b or float(value) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("kinds", "which", "message"),
    [
        (["distance", "color"], [0], "unknown measure 'color'; use one or more of distance,erf,cka,robustness"),
        ([], [0], "no measure; use one or more"),
        (["erf", "distance"], [1], "no attention was recorded from ResNet"),
        (["erf", "robustness"], [0], "needs the images' classes: leave --images out"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_nothing_is_written(subjects, tmp_path, kinds, which, message):
    with pytest.raises(ValueError, match=message):
        write_measures(kinds, [subjects[index] for index in which], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_models_that_see_other_numbers_are_not_compared(subjects, tmp_path):
    vit = subjects[0]
    other = Subject("other", vit.model, vit.images, lambda images: images.float())
    with pytest.raises(ValueError, match="ViT and other want other sizes or normalizations"):
        write_measures(["cka"], [vit, other], tmp_path)
    smaller = Subject("small", vit.model, vit.images[..., :8, :8], scaled)
    with pytest.raises(ValueError, match="images of different sizes"):
        write_measures(["robustness"], [vit, smaller], tmp_path, torch.zeros(40, dtype=torch.long))


def test_kinds_are_known_before_anything_is_loaded():
    check_kinds(["cka"])
    with pytest.raises(ValueError, match="unknown measure ''"):
        check_kinds([""])
