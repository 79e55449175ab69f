import shutil

import numpy as np
import pytest
from PIL import Image

from vitlab.data import decoded_images, image_folder
from vitlab.data.decoded_images import StoredImages
from vitlab.data.decoding import read_image
from vitlab.data.image_folder import FileImages, ImageFolder

SIZES = {"train": {"ant": 7, "bee": 5}, "test": {"ant": 3, "bee": 3}, "val": {"ant": 2, "bee": 2}}


def fill(folder, counts, start=0):
    """Writes images of one color each, so that an image tells which file it came from."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            color = (start + number, len(name) * 10 + ord(name[0]) % 10, 0)
            Image.new("RGB", (9, 7), color).save(folder / name / f"{number}.png")


@pytest.fixture
def split_folder(tmp_path):
    for start, (split, counts) in enumerate(SIZES.items()):
        fill(tmp_path / "pets" / split, counts, start * 50)
    return tmp_path / "pets"


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path, monkeypatch):
    image_folder._DECODED.clear()
    decoded_images._OPEN.clear()
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))


def first_reds(images):
    return images.batch(np.arange(len(images)))[:, 0, 0, 0].tolist()


def test_three_splits_are_read_from_their_folders(split_folder):
    dataset = ImageFolder(str(split_folder), image_size=5)
    assert (dataset.name, dataset.class_names, dataset.num_classes) == ("pets", ("ant", "bee"), 2)
    assert first_reds(dataset.train()) == [*range(7), *range(5)]
    assert dataset.train().labels.tolist() == [0] * 7 + [1] * 5
    assert first_reds(dataset.test()) == [50, 51, 52, 50, 51, 52]
    assert first_reds(dataset.validation()) == [100, 101, 100, 101]


def test_val_is_the_test_set_in_the_layout_of_imagenet(split_folder):
    shutil.rmtree(split_folder / "test")
    dataset = ImageFolder(split_folder, image_size=5)
    assert dataset.validation() is None
    assert first_reds(dataset.test()) == [100, 101, 100, 101]
    assert len(dataset.train()) == 12


@pytest.mark.parametrize("only_train", [False, True])
def test_unsplit_folder_is_split_by_seed(tmp_path, only_train):
    fill(tmp_path / "train" if only_train else tmp_path, {"ant": 20, "bee": 10})
    dataset = ImageFolder(tmp_path, image_size=5, test_fraction=0.3)
    train, test = dataset.train(), dataset.test()
    assert np.bincount(test.labels).tolist() == [6, 3]
    assert sorted(train.paths + test.paths) == sorted(str(path) for path in tmp_path.rglob("*.png"))
    assert ImageFolder(tmp_path, 5, test_fraction=0.3).test().paths == test.paths
    assert ImageFolder(tmp_path, 5, test_fraction=0.3, split_seed=1).test().paths != test.paths
    assert dataset.validation() is None


def test_other_files_and_hidden_ones_are_ignored_and_nested_ones_found(split_folder):
    ant = split_folder / "train" / "ant"
    (ant / "notes.txt").write_text("no image")
    (ant / ".hidden.png").write_text("no image")
    (split_folder / "train" / ".cache").mkdir()
    (ant / "deeper").mkdir()
    Image.new("RGB", (9, 7)).save(ant / "deeper" / "EXTRA.PNG")
    dataset = ImageFolder(split_folder, image_size=5)
    assert len(dataset.train()) == 13
    assert dataset.class_names == ("ant", "bee")


def test_gray_folder_has_one_channel(split_folder):
    images = ImageFolder(split_folder, image_size=5, in_channels=1).train()
    assert images.batch(np.array([1])).shape == (1, 5, 5, 1)


def test_small_images_are_decoded_once_for_all_objects(split_folder, monkeypatch):
    calls = []

    def count(path, in_channels, image_size):
        calls.append(path)
        return np.full((image_size, image_size, in_channels), len(calls), dtype=np.uint8)

    monkeypatch.setattr(image_folder, "read_image", count)
    images = ImageFolder(split_folder, image_size=5).train()
    assert images.in_memory
    first = images.batch(np.array([3, 3, 1]))
    assert len(calls) == 2
    again = ImageFolder(split_folder, image_size=5).train()
    np.testing.assert_array_equal(again.batch(np.array([3, 3, 1])), first)
    assert len(calls) == 2
    again.batch(np.array([1, 2]))
    assert len(calls) == 3
    ImageFolder(split_folder, image_size=3).train().batch(np.array([1]))
    assert len(calls) == 4


def test_large_images_are_kept_on_the_disk(split_folder, tmp_path):
    images = ImageFolder(split_folder, image_size=65).train()
    assert isinstance(images, StoredImages)
    assert (images.in_memory, images.on_disk) == (False, True)
    assert images.batch(np.array([4, 0])).shape == (2, 65, 65, 3)
    assert not image_folder._DECODED
    assert [path.name.split("-65px")[0] for path in (tmp_path / "cache" / "decoded_images").iterdir()] == ["pets-train"]


@pytest.mark.parametrize("image_size", [5, 67])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_pixels_are_those_of_the_files_wherever_they_are_kept(split_folder, image_size, in_channels):
    for cache, on_disk, in_memory in (
        ("memory", 0, 1),
        ("disk", 1, 0),
        ("none", 0, 0),
        ("auto", image_size > 64, None),
    ):
        dataset = ImageFolder(split_folder, image_size, in_channels, cache=cache)
        for split in ("train", "test", "val"):
            images = {"train": dataset.train, "test": dataset.test, "val": dataset.validation}[split]()
            assert images.on_disk == on_disk
            assert in_memory is None or images.in_memory == in_memory
            rows = np.array([3, 0, 1])
            paths = [split_folder / split / name for name in ("ant/0.png", "ant/1.png", "bee/1.png")]
            pixels = images.batch(np.array([0, 1, len(images) - SIZES[split]["bee"] + 1]))
            np.testing.assert_array_equal(pixels, [read_image(path, in_channels, image_size) for path in paths])
            np.testing.assert_array_equal(images.batch(rows)[1], pixels[0])


def test_where_images_are_kept_does_not_change_the_fingerprint(split_folder):
    prints = {ImageFolder(split_folder, 5, cache=cache).fingerprint for cache in ("auto", "memory", "disk", "none")}
    assert len(prints) == 1


def test_all_splits_of_an_unsplit_folder_are_parts_of_the_same_decoded_images(tmp_path):
    fill(tmp_path / "pets", {"ant": 20, "bee": 10})
    for seed in (0, 1):
        kept = ImageFolder(tmp_path / "pets", 5, test_fraction=0.3, split_seed=seed, cache="disk")
        held = ImageFolder(tmp_path / "pets", 5, test_fraction=0.3, split_seed=seed)
        assert first_reds(kept.train()) == first_reds(held.train())
        assert first_reds(kept.test()) == first_reds(held.test())
        assert kept.test().labels.tolist() == held.test().labels.tolist()
    assert len(list((tmp_path / "cache" / "decoded_images").iterdir())) == 1


def test_auto_leaves_a_large_folder_and_a_full_disk_alone(split_folder, monkeypatch):
    num_bytes = 12 * 67 * 67 * 3
    dataset = ImageFolder(split_folder, 67)

    def kind():
        images = dataset.train()
        return "disk" if images.on_disk else "memory" if images.in_memory else "none"

    monkeypatch.setattr(image_folder, "free_bytes", lambda folder: 2 * num_bytes - 1)
    assert kind() == "none"
    monkeypatch.setattr(image_folder, "free_bytes", lambda folder: 2 * num_bytes)
    assert kind() == "disk"
    dataset.train().prepare()
    monkeypatch.setattr(image_folder, "free_bytes", lambda folder: 0)
    assert kind() == "disk"  # it is there already
    monkeypatch.setattr(image_folder, "MAX_STORED_BYTES", num_bytes - 1)
    assert kind() == "none"


def test_more_than_the_memory_is_refused(split_folder, monkeypatch):
    monkeypatch.setattr(image_folder.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 899}[name])
    with pytest.raises(
        ValueError, match=r"cache is memory, but the decoded images take 0\.0 GB.*use cache disk or auto"
    ):
        ImageFolder(split_folder, 5, cache="memory").train()
    assert ImageFolder(split_folder, 5, cache="memory").test().in_memory  # 450 bytes


def test_large_images_are_not_kept_where_that_is_not_wanted(split_folder, tmp_path):
    images = ImageFolder(split_folder, image_size=65, cache="none").train()
    assert isinstance(images, FileImages)
    assert not (tmp_path / "cache").exists()
    assert not images.in_memory
    assert images.batch(np.array([4, 0])).shape == (2, 65, 65, 3)
    assert not image_folder._DECODED


def test_large_folder_of_small_images_is_not_kept(split_folder, monkeypatch):
    monkeypatch.setattr(image_folder, "MAX_CACHED_BYTES", 12 * 5 * 5 * 3 - 1)
    dataset = ImageFolder(split_folder, image_size=5)
    assert not dataset.train().in_memory
    assert dataset.test().in_memory


def test_old_splits_leave_the_memory(split_folder):
    for image_size in range(3, 12):
        ImageFolder(split_folder, image_size).train().batch(np.array([0]))
    assert len(image_folder._DECODED) == image_folder.MAX_CACHED_SPLITS


def test_fingerprint_tells_contents_and_decodings_apart(split_folder, tmp_path):
    kinds = [ImageFolder(split_folder, 5), ImageFolder(split_folder, 7), ImageFolder(split_folder, 5, in_channels=1)]
    prints = [dataset.fingerprint for dataset in kinds]
    shutil.copytree(split_folder, tmp_path / "copy")
    assert ImageFolder(tmp_path / "copy", 5).fingerprint == prints[0]
    Image.new("RGB", (90, 70), "teal").save(split_folder / "train" / "ant" / "0.png")
    prints.append(ImageFolder(split_folder, 5).fingerprint)
    assert len(set(prints)) == 4


def test_unreadable_image_is_named_when_it_is_read(split_folder):
    (split_folder / "train" / "bee" / "2.png").write_bytes(b"broken")
    images = ImageFolder(split_folder, image_size=5).train()
    images.batch(np.arange(5))
    with pytest.raises(ValueError, match=r"cannot read image .*bee.2\.png"):
        images.batch(np.arange(12))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"image folder '.*nowhere' does not exist"):
        ImageFolder(tmp_path / "nowhere", 5)


def test_empty_class_folder_is_named(split_folder):
    (split_folder / "train" / "cat").mkdir()
    (split_folder / "test" / "cat").mkdir()
    (split_folder / "val" / "cat").mkdir()
    with pytest.raises(ValueError, match=r"class folder '.*train.cat' holds no images"):
        ImageFolder(split_folder, 5)


def test_folder_without_class_folders_is_refused(tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="has 0 class folders"):
        ImageFolder(tmp_path, 5)


@pytest.mark.parametrize("split", ["test", "val"])
def test_classes_that_differ_between_splits_are_named(split_folder, split):
    fill(split_folder / split, {"cat": 2})
    with pytest.raises(ValueError, match=f"the classes of {split}/ and train/ differ in cat"):
        ImageFolder(split_folder, 5)


def test_splits_without_train_are_refused(split_folder):
    shutil.rmtree(split_folder / "train")
    with pytest.raises(ValueError, match="has val and test but no train folder"):
        ImageFolder(split_folder, 5)


@pytest.mark.parametrize(
    ("name", "value"), [("image_size", 0), ("in_channels", 4), ("test_fraction", 0.0), ("test_fraction", 1.0)]
)
def test_setting_out_of_range_is_refused_by_name(split_folder, name, value):
    with pytest.raises(ValueError, match=f"{name} {value}"):
        ImageFolder(split_folder, **({"image_size": 5} | {name: value}))


def test_unknown_cache_is_refused(split_folder):
    with pytest.raises(ValueError, match="unknown cache 'ram'; use auto, memory, disk, none"):
        ImageFolder(split_folder, 5, cache="ram")
