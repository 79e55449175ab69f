import itertools
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from vitlab.data import ArrayImages, Augmentation, DataModule, Digits, Glyphs, ImageDataset, ImageFolder

# Lightning 2.6 asks torch 2.15 for a name that torch is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))


def glyphs(num_train=201, num_test=37):
    return Glyphs(num_train=num_train, num_test=num_test)


def labels_of(loader):
    return torch.cat([labels for _, labels in loader]).tolist()


class Recorder(LightningModule):
    """A linear model that notes the labels and images it is given."""

    def __init__(self, in_features):
        super().__init__()
        self.layer = torch.nn.Linear(in_features, 2)
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def _note(self, stage, batch):
        self.seen[stage].append((self.current_epoch, batch[0].clone(), batch[1].tolist()))
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1] % 2)

    def training_step(self, batch, index):
        return self._note("train", batch)

    def validation_step(self, batch, index):
        self._note("val", batch)

    def test_step(self, batch, index):
        self._note("test", batch)

    def predict_step(self, batch, index):
        return self._note("predict", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def trainer(tmp_path, **settings):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet, **settings)


def test_shape_is_known_before_setup():
    data = DataModule(Digits())
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, 8)
    assert data.class_names == tuple("0123456789")


def test_printing_reads_no_data(monkeypatch):
    monkeypatch.setattr(Glyphs, "train", lambda self: pytest.fail("data was read"))
    assert str(DataModule(glyphs(), train_size=50)).startswith("DataModule(glyphs-both, train_size=50, val_size=0.1")


def test_training_and_validation_images_are_apart_and_validation_ignores_the_seed():
    dataset = glyphs()
    splits = []
    for seed in (0, 1):
        data = DataModule(dataset, train_size=50, val_size=30, seed=seed)
        data.setup()
        splits.append((set(data.manifest()["indices"]), frozenset(data._val[1])))
        assert not splits[-1][0] & splits[-1][1]
    assert splits[0][1] == splits[1][1]
    assert splits[0][0] != splits[1][0]


def test_subsets_of_growing_size_nest_and_are_balanced():
    manifests = [DataModule(glyphs(), train_size=size).manifest() for size in (11, 50, 101)]
    for smaller, larger in itertools.pairwise(manifests):
        assert larger["indices"][: smaller["train_size"]] == smaller["indices"]
    assert sorted(manifests[0]["class_counts"].values()) == [5, 6]
    assert json.loads(json.dumps(manifests)) == manifests


def test_null_takes_all_that_validation_leaves():
    assert DataModule(glyphs(), val_size=30).manifest()["train_size"] == 171


def test_same_seed_gives_the_same_batches_whatever_the_global_generator_did():
    def draw(global_seed):
        torch.manual_seed(global_seed)
        data = DataModule(glyphs(), train_size=60, batch_size=20, seed=3, augmentation=Augmentation(crop_padding=2))
        return list(data.train_dataloader())

    for (images, labels), (other_images, other_labels) in zip(draw(0), draw(1), strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_evaluation_is_in_order_complete_and_never_augmented():
    dataset = glyphs()
    data = DataModule(dataset, augmentation=Augmentation(crop_padding=4), val_size=30)
    test = torch.cat([images for images, _ in data.test_dataloader()])
    np.testing.assert_array_equal(test.permute(0, 2, 3, 1), dataset.test().batch(np.arange(37)))
    assert labels_of(data.test_dataloader()) == labels_of(data.predict_dataloader()) == dataset.test().labels.tolist()
    assert len(labels_of(data.val_dataloader())) == 30


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalization_gives_the_same_bits_however_the_images_lie(layout):
    data = DataModule(Glyphs(num_train=50, num_test=20), val_size=10)
    images = torch.randint(0, 256, (5, 3, 13, 11), dtype=torch.uint8).to(memory_format=layout)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in data.channel_statistics)
    normalized = data.normalize(images)
    assert torch.equal(normalized, images.float() * (1 / (255 * std)).float() + (-mean / std).float())
    assert normalized.stride() == images.stride()


def test_normalized_training_images_have_mean_zero_and_deviation_one():
    data = DataModule(glyphs(), batch_size=180)
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


def test_statistics_do_not_depend_on_the_subset():
    dataset = glyphs()
    assert DataModule(dataset, train_size=10).channel_statistics == DataModule(dataset, seed=5).channel_statistics


class Constant(ImageDataset):
    name, in_channels, image_size, class_names, fingerprint = "constant", 1, 7, ("a", "b"), "constant"

    def train(self):
        return ArrayImages(np.full((20, 7, 7, 1), 99, dtype=np.uint8), np.arange(20) % 2)

    test = train


class Unbalanced(Constant):
    """Three images of one class in twenty-nine."""

    fingerprint = "unbalanced"

    def train(self):
        return ArrayImages(np.full((29, 7, 7, 1), 99, dtype=np.uint8), np.repeat([0, 1], [26, 3]))

    test = train


def test_a_proportional_draw_goes_up_to_all_images_and_a_balanced_one_to_the_smallest_class():
    counts = [
        DataModule(Unbalanced(), train_size=size, val_size=2, draw="proportional").manifest()["class_counts"]
        for size in (12, 27)
    ]
    assert counts[1] == {"a": 25, "b": 2}
    assert counts[0]["a"] in (10, 11, 12)
    with pytest.raises(ValueError, match=r"class b has only 2 training images; use 5 or fewer, .* data.draw: prop"):
        DataModule(Unbalanced(), train_size=12, val_size=2).setup()


def test_constant_images_stay_finite():
    data = DataModule(Constant())
    assert data.normalize(next(iter(data.test_dataloader()))[0]).abs().max() < 1e-4


def test_second_setup_reads_nothing(monkeypatch):
    data = DataModule(glyphs())
    data.setup("fit")
    monkeypatch.setattr(Glyphs, "train", lambda self: pytest.fail("read again"))
    data.setup("validate")
    data.setup("test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 1}, "train_size 1 is below the number of classes"),
        ({"train_size": 0}, "train_size 0"),
        ({"train_size": -3}, "train_size -3"),
        ({"train_size": 172, "val_size": 30}, "train_size 172 is larger than the 171 training images"),
        ({"val_size": 201}, "val_size 201 means 201 of 201"),
        ({"val_size": 0}, "val_size 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"num_workers": -1}, "num_workers -1"),
        ({"seed": -1}, "seed -1"),
        ({"draw": "random"}, "unknown draw 'random'; use balanced or proportional"),
    ],
)
def test_impossible_setting_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataModule(glyphs(), **arguments).setup()


def test_trainer_sees_each_epoch_in_a_new_order_and_evaluates_each_image_once(tmp_path):
    data = DataModule(glyphs(), train_size=90, val_size=30, batch_size=30)
    model = Recorder(3 * 16 * 16)
    run = trainer(tmp_path, max_epochs=3, num_sanity_val_steps=0)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    run.predict(model, data, return_predictions=False)
    expected = data.train_dataloader()
    for epoch in range(3):
        expected.sampler.set_epoch(epoch)
        seen = [batch for batch in model.seen["train"] if batch[0] == epoch]
        for (_, images, labels), (pixels, wanted) in zip(seen, expected, strict=True):
            assert labels == wanted.tolist()
            torch.testing.assert_close(images, data.normalize(pixels))
    orders = {tuple(batch[2]) for batch in model.seen["train"]}
    assert len(orders) == 9
    assert sum(len(labels) for epoch, _, labels in model.seen["val"] if epoch == 1) == 30
    for stage in ("test", "predict"):
        assert [label for _, _, labels in model.seen[stage] for label in labels] == data.dataset.test().labels.tolist()


def test_resumed_run_continues_with_the_next_epoch_order(tmp_path):
    def labels(model):
        return [batch[2] for batch in model.seen["train"]]

    def data():
        return DataModule(glyphs(), train_size=60, val_size=30, batch_size=20)

    whole, first, second = Recorder(768), Recorder(768), Recorder(768)
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(whole, data())
    start = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    start.fit(first, data())
    start.save_checkpoint(tmp_path / "a.ckpt")
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(second, data(), ckpt_path=tmp_path / "a.ckpt")
    assert labels(first) + labels(second) == labels(whole)


class ManyProcesses:
    """What the data module asks of a trainer."""

    def __init__(self, rank=0, world_size=2):
        self.global_rank, self.world_size = rank, world_size
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"))


def test_two_processes_count_each_validation_and_test_image_once():
    counts = {"val": [], "test": [], "train": []}
    for rank in range(2):
        data = DataModule(glyphs(), train_size=60, val_size=31, batch_size=20)
        data.trainer = ManyProcesses(rank)
        for name in counts:
            counts[name] += [sum(len(labels) for _, labels in getattr(data, f"{name}_dataloader")())]
    assert (sum(counts["val"]), sum(counts["test"]), counts["train"]) == (31, 37, [30, 30])


@pytest.mark.parametrize(
    ("processes", "train_size", "batch_size", "message"),
    [
        (3, 60, 20, r"batch_size 20 .* is not divisible by 3 processes; use 18 or 21"),
        (3, 60, 2, r"batch_size 2 .* is not divisible by 3 processes; use 3,"),
        (4, 18, 20, r"18 training images are less than a batch of 20, .* 4 processes cannot share it equally"),
    ],
)
def test_unequal_shares_of_a_training_batch_are_refused(processes, train_size, batch_size, message):
    data = DataModule(glyphs(), train_size=train_size, val_size=31, batch_size=batch_size)
    data.setup("fit")
    data.trainer = ManyProcesses(world_size=processes)  # which Lightning may tell it after a first setup
    with pytest.raises(ValueError, match=message):
        data.setup("fit")
    with pytest.raises(ValueError, match=message):
        data.train_dataloader()
    data.setup("test")
    assert len(labels_of(data.test_dataloader())) in (37 // processes, 37 // processes + 1)


def test_equal_shares_of_one_small_batch_are_served():
    data = DataModule(glyphs(), train_size=18, val_size=31, batch_size=20)
    data.trainer = ManyProcesses(world_size=2)
    assert [len(labels) for _, labels in data.train_dataloader()] == [9]


def save_folder(root, per_class, size=9):
    generator = np.random.default_rng(0)
    for split in ("train", "test", "val"):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


def test_folder_with_its_own_validation_images_trains_on_all_of_train(tmp_path):
    save_folder(tmp_path / "pets", 7)
    data = DataModule(ImageFolder(tmp_path / "pets", image_size=9))
    assert data.manifest()["train_size"] == 14
    assert labels_of(data.val_dataloader()) == [0] * 7 + [1] * 7
    mean, _ = data.channel_statistics
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    pixels = data.dataset.train().batch(np.arange(14))
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 1, 2)))


def test_large_images_come_through_workers_with_augmentation(tmp_path):
    save_folder(tmp_path / "pets", 5, size=70)
    augmentation = Augmentation(horizontal_flip=True)
    folder = ImageFolder(tmp_path / "pets", 67, cache="none")
    data = DataModule(folder, batch_size=4, augmentation=augmentation, num_workers=1)
    model = Recorder(3 * 67 * 67)
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(model, data)
    epochs = [[batch[1] for batch in model.seen["train"] if batch[0] == epoch] for epoch in (0, 1)]
    assert [len(epoch) for epoch in epochs] == [2, 2]
    assert not torch.equal(epochs[0][0], epochs[1][0])
    assert sorted(label for epoch, _, labels in model.seen["val"] if epoch for label in labels) == [0] * 5 + [1] * 5


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_on_the_disk_train_as_those_that_stay_on_the_device(tmp_path, num_workers):
    save_folder(tmp_path / "pets", 9, size=70)
    augmentation = Augmentation(crop_padding=3, horizontal_flip=True)

    def fit(cache, residency):
        folder = ImageFolder(tmp_path / "pets", 67, cache=cache)
        data = DataModule(folder, 12, 0.2, 4, 3, augmentation, num_workers, residency)
        model = Recorder(3 * 67 * 67)
        loop = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
        loop.fit(model, data)
        loop.test(model, data, verbose=False)
        return data, model.seen

    (ours, stored), (theirs, resident) = fit("disk", "auto"), fit("memory", "device")
    assert ours.channel_statistics == theirs.channel_statistics
    assert len(stored["train"]) == 6
    for stage in ("train", "val", "test"):
        for ours, theirs in zip(stored[stage], resident[stage], strict=True):
            assert (ours[0], ours[2]) == (theirs[0], theirs[2])
            assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(stored["train"][0][1], stored["train"][3][1])


def test_the_host_path_reads_the_same_from_the_disk_as_from_files(tmp_path):
    save_folder(tmp_path / "pets", 9, size=70)

    def batches(cache):
        folder = ImageFolder(tmp_path / "pets", 67, cache=cache)
        augmentation = Augmentation(crop_padding=3, horizontal_flip=True)
        data = DataModule(folder, batch_size=4, augmentation=augmentation, residency="host")
        return [images for images, _ in data.train_dataloader()]

    assert all(map(torch.equal, batches("disk"), batches("none")))
