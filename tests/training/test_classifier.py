"""The module learns, measures right, and refuses what cannot work."""

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional

from vitlab.training import AdamW, Classifier

CLASSES = 7


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, CLASSES))


def batches(count=3, size=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, size, 3, 5, 5, generator=generator)
    labels = torch.randint(CLASSES, (count, size), generator=generator)
    return list(zip(images, labels, strict=True))


def trainer(**options):
    silent = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return lightning.Trainer(accelerator="cpu", **silent, **options)


class Loader(list):
    """A list of batches that Lightning takes for a loader."""


def test_attributes_set_the_quick_way_still_reach_modules_parameters_and_properties():
    module = Classifier(linear(), CLASSES)
    module.validated_at_step = 3
    assert (module.validated_at_step, module.__dict__["validated_at_step"]) == (3, 3)
    module.backbone = other = linear()
    assert module.backbone is other
    assert dict(module.named_modules())["backbone"] is other
    module.weight = nn.Parameter(torch.ones(2))
    module.weight = None
    assert "weight" in module._parameters
    assert "weight" not in module.state_dict()
    module.trainer = run = trainer()
    assert module.trainer is run


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning")
class TestTraining:
    def test_it_fits_what_it_is_shown(self):
        lightning.seed_everything(0)
        module, data = Classifier(linear(), CLASSES, learning_rate=0.05), Loader(batches(1))
        run = trainer(max_steps=60)
        run.fit(module, data)
        images, labels = data[0]
        assert (module(images).argmax(dim=1) == labels).all()

    def test_the_learning_rate_of_each_step_follows_the_schedule(self):
        module = Classifier(linear(), CLASSES, learning_rate=0.3, warmup_fraction=0.2)
        rates = []

        class Watch(lightning.Callback):
            def on_train_batch_start(self, *_):
                rates.append(module.optimizers().param_groups[0]["lr"])

        trainer(max_steps=10, callbacks=[Watch()]).fit(module, Loader(batches(10)))
        assert rates[:3] == pytest.approx([0.15, 0.3, 0.3])
        assert rates[-1] == pytest.approx(0.3 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * 7 / 8))).item())

    @pytest.mark.parametrize("stage", ["val", "test"])
    def test_metrics_equal_those_computed_by_hand(self, stage):
        module, data = Classifier(linear(), CLASSES), batches(3)
        run = trainer()
        results = (run.validate if stage == "val" else run.test)(module, Loader(data), verbose=False)[0]
        logits = module(torch.cat([images for images, _ in data])).detach()
        labels = torch.cat([labels for _, labels in data])
        top5 = (logits.topk(5).indices == labels[:, None]).any(dim=1)
        assert results[f"{stage}/accuracy"] == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())
        assert results[f"{stage}/top5_accuracy"] == pytest.approx(top5.float().mean().item())
        assert results[f"{stage}/nll"] == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
        assert 0 <= results[f"{stage}/calibration_error"] <= 1

    def test_the_metrics_of_unequal_batches_weigh_each_image_once(self):
        images, labels = batches(1, size=13)[0]
        module = Classifier(linear(), CLASSES)
        whole = trainer().validate(module, Loader([(images, labels)]), verbose=False)[0]
        parts = Loader([(images[:11], labels[:11]), (images[11:], labels[11:])])
        split = trainer().validate(module, parts, verbose=False)[0]
        assert split == pytest.approx(whole, rel=1e-5)

    @pytest.mark.parametrize(
        "options", [{"mixup_alpha": 1}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1, "cutmix_alpha": 1}]
    )
    def test_mixing_mixes_in_training_only(self, options):
        module = Classifier(linear(), CLASSES, **options)
        images, labels = batches(1)[0]
        torch.manual_seed(0)
        draws = [module.mix(images, labels) for _ in range(10)]  # one draw may cut out nothing
        assert any(not torch.equal(mixed, images) for mixed, _ in draws)
        targets = draws[0][1]
        assert targets.shape == (11, CLASSES)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(11))
        results = trainer().validate(module, Loader([(images, labels)]), verbose=False)[0]
        expected = (module(images).argmax(dim=1) == labels).float().mean().item()
        assert results["val/accuracy"] == pytest.approx(expected)
        trainer(max_steps=2).fit(module, Loader(batches(2)))

    def test_a_loss_that_is_not_a_number_stops_training_with_words(self):
        module = Classifier(linear(), CLASSES, learning_rate=0.1)
        images, labels = batches(1)[0]
        with pytest.raises(FloatingPointError, match=r"training loss is nan at step 0 with learning rate 0\.1"):
            trainer(max_steps=3).fit(module, Loader([(images * float("nan"), labels)]))

    def test_label_smoothing_is_that_of_torch(self):
        module = Classifier(linear(), CLASSES, label_smoothing=0.3)
        images, labels = batches(1)[0]
        expected = functional.cross_entropy(module(images), labels, label_smoothing=0.3)
        losses = []

        class Watch(lightning.Callback):
            def on_train_batch_end(self, trainer, module, outputs, *_):
                losses.append(outputs["loss"])

        trainer(max_steps=1, callbacks=[Watch()]).fit(module, Loader([(images, labels)]))
        torch.testing.assert_close(losses[0], expected.detach())

    def test_without_an_end_training_is_refused(self):
        with pytest.raises(ValueError, match="max_steps or max_epochs"):
            trainer(max_epochs=-1).fit(Classifier(linear(), CLASSES), Loader(batches(1)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"warmup_fraction": 1.0}, "warmup_fraction is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"mixup_alpha": -1.0}, "mixup_alpha is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Classifier(linear(), CLASSES, **options)


def test_the_optimizer_that_is_asked_for_is_used():
    assert Classifier(linear(), CLASSES, optimizer=AdamW(weight_decay=0.7)).optimizer.weight_decay == 0.7
