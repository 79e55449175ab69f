"""A test's answers are kept image by image, in the order of the test set, and agree with its metrics."""

import numpy as np
import pytest
import torch

from vitlab.training import run
from vitlab.training.predictions import PredictionKeeper

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")

SETTINGS = [
    "--data.dataset=vitlab.data.Digits",
    *("--data.val_size=100", "--data.train_size=50", "--num_threads=1"),
    *("--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.max_epochs=-1", "--data.batch_size=31"),
    "--model.learning_rate=0.01",
]
VIT = [
    "--model.backbone.class_path=vitlab.models.ViT",
    *("--model.backbone.init_args.patch_size=4", "--model.backbone.init_args.size=micro"),
]


def train_and_test(tmp_path, settings, **keeper):
    """Train, save, test; return the command, what was kept and the metrics."""
    cli = run.fit(settings)
    torch.save({"state_dict": cli.model.state_dict()}, tmp_path / "weights.ckpt")
    keeper = PredictionKeeper(**{"max_images": 10_000, **keeper})
    return cli, keeper, run.test(settings, tmp_path / "weights.ckpt", [keeper])


def test_predicted_classes_are_those_of_the_model_in_the_order_of_the_images(tmp_path):
    cli, keeper, metrics = train_and_test(tmp_path, SETTINGS + VIT)
    kept, test = keeper.tested, cli.datamodule.dataset.test()
    pixels = torch.from_numpy(test.batch(np.arange(len(test)))).permute(0, 3, 1, 2)
    with torch.no_grad():
        predicted = cli.model.eval()(cli.datamodule.normalize(pixels)).argmax(dim=-1).numpy()
    assert (kept.predicted == predicted).mean() > 0.995  # another batch size may round a tie the other way
    np.testing.assert_array_equal(kept.targets, test.labels)
    np.testing.assert_array_equal(kept.right, kept.predicted == kept.targets)
    assert kept.right.mean() == pytest.approx(metrics["test/accuracy"], abs=1e-6)
    assert kept.fingerprint == cli.datamodule.dataset.fingerprint


def test_a_sequence_is_right_or_wrong_as_a_whole(tmp_path):
    head = "--model.backbone.init_args.head=vitlab.models.TranscriptionHead"
    small = ["--data.dataset.init_args.num_train=300", "--data.dataset.init_args.num_test=101"]
    lines = ["--data.dataset=vitlab.data.DigitLines", *small, *SETTINGS[1:], *VIT[:1], head]
    lines += ["--model.backbone.init_args.patch_size=4", "--model.backbone.init_args.size=micro"]
    _, keeper, metrics = train_and_test(tmp_path, lines)
    assert keeper.tested.predicted is None
    assert keeper.tested.right.shape == (101,)
    assert keeper.tested.right.mean() == pytest.approx(metrics["test/accuracy"], abs=1e-6)


@pytest.mark.parametrize("how", ["large", "mask", "not all"])
def test_nothing_is_kept_of_large_test_sets_masks_and_parts(tmp_path, how):
    settings, most = SETTINGS + VIT, 10_000
    if how == "large":
        most = 300
    else:
        name, num_test = ("Glyphs", 1009) if how == "not all" else ("GlyphMasks", 101)
        small = ["--data.dataset.init_args.num_train=300", f"--data.dataset.init_args.num_test={num_test}"]
        own = {"not all": "--trainer.limit_test_batches=1", "mask": "--model.backbone.init_args.head=DenseHead"}
        settings = [f"--data.dataset=vitlab.data.{name}", *small, *SETTINGS[1:], *VIT, own[how]]
    _, keeper, metrics = train_and_test(tmp_path, settings, max_images=most)
    assert 0 <= metrics["test/accuracy"] <= 1
    assert keeper.tested is None
