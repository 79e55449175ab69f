"""The LightningModule that trains an image classifier; it is handed a model and never picks one.

Loss and metrics depend on what the data set asks for, and have a file for each kind. MixUp: arXiv 1710.09412; CutMix:
arXiv 1905.04899; label smoothing: arXiv 1512.00567, section 7.
"""

import inspect
import math
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from vitlab.data import Target
from vitlab.training.label_objective import LabelObjective
from vitlab.training.mask_objective import MaskObjective
from vitlab.training.optimizer import AdamW, OptimizerRecipe, warmup_cosine
from vitlab.training.sequence_objective import SequenceObjective
from vitlab.training.sharding import differ_by_rank, has_batch_norm, shard

Batch = tuple[Tensor, Tensor]

OBJECTIVES = {"label": LabelObjective, "mask": MaskObjective, "sequence": SequenceObjective}

_PLAIN = (str, int, float, bool)
_STEPS_BETWEEN_LOSS_CHECKS = 20  # on a GPU each check waits for the device
_BATCH_NORM_ALONE = (
    "the model has BatchNorm, and each of the {processes} processes normalizes by its own share of the batch, so the "
    "result depends on their number; set trainer.sync_batchnorm: true (GPUs only), or a model without BatchNorm (for "
    "vitlab's ResNet: norm: group)"
)


class Classifier(lightning.LightningModule):
    """Train and evaluate one image classifier.

    With several processes each sees its share of every batch, and all hold the same weights, or under
    ModelParallelStrategy a share of them.

    Args:
        backbone: The model: maps images (batch, channels, height, width) to logits: (batch, classes) for labels,
            (batch, classes, height, width) for masks, (batch, steps, classes + 1) for sequences.
        num_classes: Number of classes; the command line fills it in from the data.
        optimizer: `vitlab.training.AdamW`, `vitlab.training.SGD` or `vitlab.training.Muon` with its settings.
        learning_rate: Peak learning rate; the one written here is the one used, nothing rescales it.
        warmup_fraction: Share of all steps with a linearly rising learning rate, 0 to 1; a cosine to 0 follows.
        label_smoothing: Probability mass spread over all classes in the training targets, 0 to 1.
        mixup_alpha: Beta parameter of MixUp; 0 for none. With CutMix also on, each batch draws one of the two.
        cutmix_alpha: Beta parameter of CutMix; 0 for none.
        target: What the data set asks for: label, mask or sequence; the command line fills it in from the data.

    Shape:
        batch: images (batch, channels, height, width) float32, normalized; targets int64: labels (batch,), masks
        (batch, height, width), or sequences (batch, longest) filled up with -1.

    Raises:
        ValueError: A number is out of range, or cannot be used with this kind of target.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        optimizer: OptimizerRecipe | None = None,
        learning_rate: float = 1e-3,
        warmup_fraction: float = 0.1,
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        target: Target = "label",
    ) -> None:
        super().__init__()
        if learning_rate <= 0:
            raise ValueError(f"learning_rate is {learning_rate}; give a positive number")
        for name, share in (("warmup_fraction", warmup_fraction), ("label_smoothing", label_smoothing)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} is {share}; give a number from 0 up to, not including, 1")
        if target not in OBJECTIVES:
            raise ValueError(f"unknown target {target!r}; use one of {', '.join(OBJECTIVES)}")
        if target != "label" and (mixup_alpha or cutmix_alpha):
            raise ValueError(
                f"MixUp and CutMix mix the labels of images, and the target here is a {target}; set mixup_alpha and "
                "cutmix_alpha to 0"
            )
        self._save_settings()
        self.backbone = backbone
        self.optimizer = optimizer or AdamW()
        self.learning_rate = learning_rate
        self.warmup_fraction = warmup_fraction
        self.objective = OBJECTIVES[target](num_classes, label_smoothing)
        self.mix = _mixing(num_classes, mixup_alpha, cutmix_alpha)
        self.validated_at_step: int | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set plain values the plain way: Lightning notes 50 times a step which hook runs, and nn.Module is slow."""
        if name in self.__dict__ and (value is None or type(value) in _PLAIN):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.backbone(images)

    def setup(self, stage: str) -> None:
        """Draw random numbers of its own in each process; Lightning calls this before it restores a checkpoint.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.
        """
        if stage == "fit":
            differ_by_rank(self.global_rank)

    def configure_model(self) -> None:
        """Share the weights among the processes where the strategy asks for it; Lightning calls this in each."""
        if self.device_mesh is not None:
            shard(self.backbone, self.device_mesh)

    def on_fit_start(self) -> None:
        """Say so when several processes cannot give what one would."""
        if self.trainer.world_size > 1 and has_batch_norm(self.backbone):
            rank_zero_warn(_BATCH_NORM_ALONE.format(processes=self.trainer.world_size))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the training loss of a batch."""
        images, targets = self.mix(*batch) if self.mix else batch
        loss = self.objective.loss(self(images), targets)
        if self.global_step % self.trainer.log_every_n_steps == 0:
            self.log("train/loss", loss.detach(), sync_dist=True)  # a mean over equal shares of the batch
        if self.global_step % self._steps_between_checks == 0:
            self._check_finite(loss)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Add a batch to the test metrics, and return its logits to callbacks that look at single images."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return class probabilities (batch, classes), or what the objective's `predict` gives for other targets."""
        return self.objective.predict(self(batch[0]).float())

    def on_validation_end(self) -> None:
        """Remember which weights the validation metrics belong to."""
        if not self.trainer.sanity_checking:
            self.validated_at_step = self.global_step

    def on_train_end(self) -> None:
        """Refuse a model whose weights are not numbers (a GPU's last steps are not checked one by one)."""
        if not all(torch.isfinite(parameter).all() for parameter in self.parameters()):
            raise FloatingPointError(self._divergence("the weights are not finite"))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and its schedule over all steps of this training."""
        optimizer = self.optimizer.build(self.backbone, self.learning_rate)
        total_steps = self.trainer.estimated_stepping_batches
        if total_steps == float("inf"):
            raise ValueError("the training has no end, and a cosine needs one; set trainer.max_steps or max_epochs")
        warmup_steps = round(self.warmup_fraction * total_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup_steps, total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _save_settings(self) -> None:
        """Keep the settings for checkpoints: from the command line all, as YAML has them; never a pickled module."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")
            self.save_hyperparameters(frame=inspect.currentframe().f_back)
        for name in ("backbone", "optimizer"):
            if not isinstance(self.hparams.get(name), dict | None):  # made by hand: give it to load_from_checkpoint
                self.hparams.pop(name)

    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        images, targets = batch
        logits = self(images).float()
        for name, metric in self.objective.evaluate(stage, logits, targets).items():
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, prog_bar=name == "accuracy")
        return logits

    @property
    def _steps_between_checks(self) -> int:
        return 1 if self.device.type == "cpu" else _STEPS_BETWEEN_LOSS_CHECKS

    def _check_finite(self, loss: Tensor) -> None:
        finite = math.isfinite(loss.item())
        if finite and self.trainer.world_size == 1:
            return
        # All processes stop together: one alone would leave the others waiting for its gradients.
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            loss_is = "loss of another process is not a number" if finite else f"loss is {loss.item()}"
            raise FloatingPointError(self._divergence(f"the training {loss_is}"))

    def _divergence(self, what: str) -> str:
        return f"{what} at step {self.global_step} with learning rate {self.learning_rate:g}; try a smaller one"


def _mixing(num_classes: int, mixup_alpha: float, cutmix_alpha: float):
    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        if alpha < 0:
            raise ValueError(f"{name} is {alpha}; give 0 (off) or a positive number, often 0.2 to 1")
    if not mixup_alpha and not cutmix_alpha:
        return None
    from torchvision.transforms import v2  # here, because most runs do not mix

    transforms = {v2.MixUp: float(mixup_alpha), v2.CutMix: float(cutmix_alpha)}
    choices = [mix(alpha=alpha, num_classes=num_classes) for mix, alpha in transforms.items() if alpha]
    return v2.RandomChoice(choices) if len(choices) > 1 else choices[0]
