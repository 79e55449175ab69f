"""What a step costs is counted for all its images, and timed on the training itself."""

import time

import pytest
import torch

from vitlab.training import run
from vitlab.training.step_cost import forward_macs, images_per_step, step_macs, step_seconds

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")

SETTINGS = [
    *("--data.dataset=vitlab.data.Digits", "--data.val_size=100", "--num_threads=1", "--model.learning_rate=0.001"),
    *("--trainer.accelerator=cpu", "--trainer.max_steps=1000000", "--trainer.max_epochs=-1", "--data.batch_size=31"),
    *("--trainer.val_check_interval=1000000", "--trainer.check_val_every_n_epoch=null"),
]
VIT = [
    "--model.backbone.class_path=vitlab.models.ViT",
    "--model.backbone.init_args.patch_size=4",
    "--model.backbone.init_args.size={dim: 12, depth: 1, num_heads: 2, mlp_dim: 20}",
]


def test_the_macs_of_a_small_vit_are_those_counted_by_hand():
    cli = run.prepare([*SETTINGS, *VIT, "--data.train_size=53"])
    tokens, dim, mlp, classes, pixels = 4 + 1, 12, 20, 10, 16
    projections = tokens * (3 * dim * dim + dim * dim + 2 * dim * mlp)
    attention = 2 * tokens * tokens * dim
    patches, head = (tokens - 1) * pixels * dim, dim * classes
    assert forward_macs(cli) == patches + projections + attention + head


@pytest.mark.parametrize(("train_size", "accumulate", "images"), [(53, 1, 31), (53, 3, 31), (17, 1, 17), (124, 3, 62)])
def test_a_step_is_a_forward_and_a_backward_pass_of_all_its_images(train_size, accumulate, images):
    settings = [*SETTINGS, *VIT, f"--data.train_size={train_size}", f"--trainer.accumulate_grad_batches={accumulate}"]
    cli = run.prepare(settings)
    assert images_per_step(cli) == images
    assert step_macs(settings) == 3 * forward_macs(cli) * images


def test_a_step_is_timed_on_the_training_and_not_for_longer_than_asked(monkeypatch):
    def slow(self, batch, batch_index, step=run.Classifier.training_step):
        time.sleep(0.02)
        return step(self, batch, batch_index)

    def never(self, batch, batch_index):
        raise AssertionError("validation is not a part of a step")

    monkeypatch.setattr(run.Classifier, "training_step", slow)
    monkeypatch.setattr(run.Classifier, "validation_step", never)
    once, device = step_seconds([*SETTINGS, *VIT, "--data.train_size=53"], seconds=0.1)
    assert once >= 0.02
    assert device == "cpu"
    twice, _ = step_seconds([*SETTINGS, *VIT, "--data.train_size=124", "--trainer.accumulate_grad_batches=2"], 0.1)
    assert twice >= 0.04  # four batches an epoch, two a step


def test_a_training_that_ends_by_itself_cannot_be_timed():
    short = [word for word in SETTINGS if "max_steps" not in word]
    with pytest.raises(ValueError, match=r"ended by itself after 4 steps, .* give the budget in steps"):
        step_seconds([*short, *VIT, "--data.train_size=53", "--trainer.max_steps=4"], 0.1)


def test_a_model_in_which_nothing_can_be_counted_is_refused(monkeypatch):
    monkeypatch.setattr("vitlab.training.step_cost.forward_macs", lambda cli: 0)
    with pytest.raises(ValueError, match="use a budget in steps or seconds"):
        step_macs([*SETTINGS, *VIT, "--data.train_size=53"])


def test_timing_leaves_the_next_training_as_it_was():
    def trained():
        settings = [*SETTINGS, *VIT, "--data.train_size=53", "--seed_everything=3"]
        cli = run.fit([argument.replace("1000000", "3") for argument in settings])
        return cli.model.state_dict()

    before = trained()
    step_seconds([*SETTINGS, *VIT, "--data.train_size=53"], seconds=0.01)
    after = trained()
    assert all(torch.equal(before[name], after[name]) for name in before)
