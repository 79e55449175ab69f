"""Loss and metrics of each kind of target equal what torch gives, or what can be counted by hand."""

import itertools

import lightning
import pytest
import torch
from torch.nn import functional
from torchmetrics.classification import MulticlassCalibrationError

from vitlab.attention import Grid
from vitlab.models import DenseHead, TranscriptionHead, ViT, ViTShape
from vitlab.training import Classifier
from vitlab.training.label_objective import CalibrationError, LabelObjective
from vitlab.training.mask_objective import MaskObjective
from vitlab.training.objective import ExactMean
from vitlab.training.sequence_objective import SequenceObjective

CLASSES = 3


def measured(objective, batches):
    for logits, targets in batches:
        metrics = objective.evaluate("val", logits, targets)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def by_enumeration(logits, sequence):
    """The chance of a sequence: the sum over all paths that spell it."""
    chances, total = logits.softmax(dim=-1), 0.0
    for path in itertools.product(range(CLASSES + 1), repeat=len(logits)):
        runs = [step for step, _ in itertools.groupby(path)]
        if [step for step in runs if step != CLASSES] == sequence:
            total += torch.stack([chances[index, step] for index, step in enumerate(path)]).prod()
    return total


@pytest.mark.parametrize("sequence", [[], [1], [0, 2], [2, 2], [0, 1, 0]])
def test_sequence_loss_sums_over_all_ways_of_spelling_the_sequence(sequence):
    torch.manual_seed(0)
    logits = torch.randn(1, 4, CLASSES + 1)
    target = torch.tensor([[*sequence, *[-1] * (5 - len(sequence))]])
    loss = SequenceObjective(CLASSES).loss(logits, target)
    torch.testing.assert_close(loss, -torch.log(by_enumeration(logits[0], sequence)))


def test_sequence_loss_is_that_of_torch_in_value_and_gradient():
    torch.manual_seed(0)
    logits = torch.randn(5, 11, CLASSES + 1, requires_grad=True)
    sequences = torch.tensor([[0, 1, 2, 2], [1, -1, -1, -1], [2, 2, -1, -1], [0, 0, 0, 0], [1, 0, 1, -1]])
    lengths = [4, 1, 2, 4, 3]
    flat = torch.cat([sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)])
    log_chances = logits.log_softmax(-1).transpose(0, 1)
    expected = functional.ctc_loss(log_chances, flat, [11] * 5, lengths, blank=CLASSES, reduction="sum") / 5
    loss = SequenceObjective(CLASSES).loss(logits, sequences)
    torch.testing.assert_close(loss, expected)
    (mine,), (theirs,) = (torch.autograd.grad(value, logits, retain_graph=True) for value in (loss, expected))
    torch.testing.assert_close(mine, theirs)


def test_a_column_of_padding_changes_no_sequence_loss():
    torch.manual_seed(0)
    head, tokens = TranscriptionHead(7, CLASSES), torch.randn(2, 5, 7)
    padded = torch.cat([tokens, torch.randn(2, 3, 7)], dim=1)
    visible = (torch.arange(8) < 5).expand(2, -1)
    sequences, objective = torch.tensor([[0, 0], [1, -1]]), SequenceObjective(CLASSES)
    alone, together = head(tokens, Grid(1, 5)), head(padded, Grid(1, 8), visible)
    torch.testing.assert_close(objective.loss(together, sequences), objective.loss(alone, sequences))
    assert torch.equal(objective.predict(together)[:, :5], objective.predict(alone))


def test_sequence_metrics_count_errors_over_images_and_over_characters():
    """Said 0 1, nothing, 2 2 2; asked for 0 1, 2, 2 1 2 0: distances 0, 1, 2 of 7 characters."""
    steps = torch.tensor([[0, 0, 1, 3, 3], [3, 3, 3, 3, 3], [2, 3, 2, 3, 2]])
    logits = 50 * functional.one_hot(steps, CLASSES + 1).float()
    sequences = torch.tensor([[0, 1, -1, -1], [2, -1, -1, -1], [2, 1, 2, 0]])
    for batches in ([(logits, sequences)], [(logits[:1], sequences[:1]), (logits[1:], sequences[1:])]):
        metrics = measured(SequenceObjective(CLASSES), batches)
        assert metrics.pop("nll") > 1
        assert metrics == pytest.approx({"accuracy": 1 / 3, "edit_distance": 1.0, "character_error_rate": 3 / 7})


def test_mask_loss_is_the_cross_entropy_of_each_pixel():
    logits, masks = torch.randn(2, CLASSES, 5, 7), torch.randint(CLASSES, (2, 5, 7))
    flat = logits.permute(0, 2, 3, 1).flatten(0, 2)
    expected = functional.cross_entropy(flat, masks.flatten(), label_smoothing=0.3)
    torch.testing.assert_close(MaskObjective(CLASSES, 0.3).loss(logits, masks), expected)


def test_mask_metrics_count_intersections_and_unions_over_the_data_set():
    """Of 12 pixels 9 are right; class 0: 6 of 9, class 1: 2 of 4, class 2: 1 of 2, over both images together."""
    truth = torch.tensor([[[0, 0, 0, 1, 1, 1]], [[0, 0, 0, 0, 2, 2]]])
    said = torch.tensor([[[0, 0, 0, 1, 1, 0]], [[0, 0, 0, 1, 2, 0]]])
    logits = functional.one_hot(said, CLASSES).permute(0, 3, 1, 2).float()
    for batches in ([(logits, truth)], [(logits[:1], truth[:1]), (logits[1:], truth[1:])]):
        metrics = measured(MaskObjective(CLASSES), batches)
        assert metrics["mean_iou"] == pytest.approx((6 / 9 + 2 / 4 + 1 / 2) / 3)
        assert metrics["accuracy"] == pytest.approx(9 / 12)
        assert metrics["nll"] == pytest.approx(functional.cross_entropy(logits, truth).item(), rel=1e-5)


def test_mean_iou_of_a_perfect_mask_is_one_also_when_a_class_is_nowhere():
    truth = torch.tensor([[[0, 1, 1], [0, 0, 1]]])
    logits = functional.one_hot(truth, CLASSES).permute(0, 3, 1, 2).float()
    assert measured(MaskObjective(CLASSES), [(logits, truth)])["mean_iou"] == 1


def test_accuracy_and_nll_are_metrics_of_every_objective():
    for make in (LabelObjective, MaskObjective, SequenceObjective):
        assert {"accuracy", "nll"} <= set(make(CLASSES).make_metrics())


@pytest.mark.parametrize(
    ("objective", "logits", "targets", "words"),
    [
        (LabelObjective, (2, 3, 5, 7), (2,), r"logits \(batch, classes\).*head: vitlab.models.ClassifierHead"),
        (MaskObjective, (2, 3), (2, 5, 7), r"logits \(batch, classes, 5, 7\), and the model gave \(2, 3\).*DenseHead"),
        (MaskObjective, (2, 3, 7, 5), (2, 5, 7), "DenseHead"),
        (SequenceObjective, (2, 3), (2, 5), r"logits \(batch, steps, 4\).*TranscriptionHead"),
        (SequenceObjective, (2, 9, 3), (2, 5), "TranscriptionHead"),
    ],
)
def test_logits_of_another_shape_are_refused_with_the_head_that_fits(objective, logits, targets, words):
    with pytest.raises(ValueError, match=words):
        objective(CLASSES).loss(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))


def test_a_sequence_that_the_steps_cannot_hold_is_refused():
    logits = torch.zeros(1, 4, CLASSES + 1)
    SequenceObjective(CLASSES).loss(logits, torch.tensor([[0, 1, 0, 1]]))
    with pytest.raises(ValueError, match=r"takes 5 steps .* and the model has 4; use a smaller patch_size or wider"):
        SequenceObjective(CLASSES).loss(logits, torch.tensor([[0, 1, 1, 2]]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "mask", "mixup_alpha": 0.2}, "the target here is a mask; set mixup_alpha and cutmix_alpha to 0"),
        ({"target": "sequence", "cutmix_alpha": 1.0}, "the target here is a sequence"),
        ({"target": "sequence", "label_smoothing": 0.1}, "label_smoothing is 0.1, and sequences .* take none"),
        ({"target": "boxes"}, "unknown target 'boxes'; use one of label, mask, sequence"),
    ],
)
def test_what_does_not_go_with_a_target_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Classifier(torch.nn.Identity(), CLASSES, **options)


def test_calibration_error_is_that_of_torchmetrics():
    torch.manual_seed(0)
    for scale in (0.1, 1.0, 100.0):  # hardly sure, sure at times, sure to the last digit
        probabilities, labels = (scale * torch.randn(1003, 7)).softmax(dim=-1), torch.randint(7, (1003,))
        expected, metric = MulticlassCalibrationError(7, n_bins=15), CalibrationError()
        expected.update(probabilities, labels)
        metric.update(probabilities, labels)
        torch.testing.assert_close(metric.compute(), expected.compute(), atol=1e-6, rtol=0)


def test_metrics_are_equal_to_the_last_digit_whatever_the_order_and_the_batches():
    """As several processes make them; float32 sums of the same numbers differ."""
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(1003, 7), torch.randint(7, (1003,))
    order = torch.randperm(1003)
    whole = measured(LabelObjective(7), [(logits, labels)])
    parts = zip(logits[order].split(89), labels[order].split(89), strict=True)
    assert measured(LabelObjective(7), parts) == whole


def test_a_mean_has_the_digits_of_float32_and_hides_nothing():
    values, metric = torch.rand(1003) * torch.logspace(-3, 6, 1003), ExactMean()
    metric.update(values)
    assert metric.compute().item() == pytest.approx(values.double().mean().item(), rel=1e-7)
    metric.update(torch.tensor([2.0, 4.0]), count=torch.tensor(8))
    assert metric.compute().item() == pytest.approx((values.double().sum().item() + 6) / 1011, rel=1e-7)
    for broken in (torch.nan, torch.inf, 2.0**32):
        metric = ExactMean()
        metric.update(torch.tensor([1.0, broken]))
        assert torch.isnan(metric.compute())


class Loader(list):
    """A list of batches that Lightning takes for a loader."""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize("target", ["mask", "sequence"])
def test_a_model_learns_what_it_is_shown(target):
    lightning.seed_everything(0)
    head = {"mask": DenseHead, "sequence": TranscriptionHead}[target]
    shape = ViTShape(dim=32, depth=1, num_heads=4, mlp_dim=32)
    model = ViT((6, 14), CLASSES, in_channels=1, patch_size=2, size=shape, head=head)
    images, masks = torch.randn(11, 1, 6, 14), torch.randint(CLASSES, (11, 6, 14))
    targets = masks if target == "mask" else torch.arange(33).reshape(11, 3).fmod(CLASSES).roll(1, 0)
    module, data = Classifier(model, CLASSES, learning_rate=0.02, target=target), Loader([(images, targets)])
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    run = lightning.Trainer(accelerator="cpu", max_steps=100, **options)
    before = run.validate(module, data, verbose=False)[0]
    run.fit(module, data)
    after = run.validate(module, data, verbose=False)[0]
    assert before["val/accuracy"] < 0.6
    assert after["val/accuracy"] > 0.95
    assert after["val/nll"] < 0.3 * before["val/nll"]
