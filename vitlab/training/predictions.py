"""`vitlab predict`: one CSV row per test image, written whole once the last batch is in.

A label comes with its probability; a sequence is written out, its entries joined by spaces. A mask does not fit a row.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import distributed

from vitlab.atomic_file import atomic_file
from vitlab.training.transcription import PADDING

Share = tuple[np.ndarray, torch.Tensor]


class PredictionWriter(BasePredictionWriter):
    """Write image index, what is true, what was predicted and, of a label, its probability to `predictions.csv`.

    With several processes the first one writes what all have predicted, in the order of the images.

    Raises:
        ValueError: The data set asks for masks.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse what has no row, before any work; Lightning calls this."""
        if trainer.datamodule.target == "mask":
            raise ValueError(
                "vitlab predict writes one row per image, and the target here is a mask; call the model from Python: "
                "Classifier.load_from_checkpoint(...)(images).argmax(dim=1)"
            )

    def write_on_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file; Lightning calls this with what predict_step gave for every batch."""
        # Lightning may have been told to stop early: as many images as there are predictions.
        answers = torch.cat(list(predictions)).cpu()
        planned = np.concatenate([plan.positions for plan in trainer.predict_dataloaders.sampler])
        shares = _gathered((planned[: len(answers)], answers))
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule
        positions, answers = np.concatenate([share[0] for share in shares]), torch.cat([share[1] for share in shares])
        order = np.argsort(positions)
        positions, answers = positions[order], answers[torch.from_numpy(order)]
        rows = _label_rows if data.target == "label" else _sequence_rows
        header, *table = rows(data.class_names, data.dataset.test().targets(positions), answers)
        path = Path(trainer.default_root_dir) / "predictions.csv"
        with atomic_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", *header])
            writer.writerows([position, *row] for position, row in zip(positions.tolist(), table, strict=True))
        print(f"predictions of {len(table):,} test images: {path}")


def _gathered(share: Share) -> list[Share]:
    """Return the shares of all processes to the first one, and to the others nothing of use."""
    if not distributed.is_initialized():
        return [share]
    shares = [share] * distributed.get_world_size()
    distributed.gather_object(share, shares if distributed.get_rank() == 0 else None)
    return shares


def _label_rows(names: Sequence[str], labels: np.ndarray, probabilities: torch.Tensor) -> Iterator[list[str]]:
    """Give the header, then a row for each image: probabilities (images, classes)."""
    yield ["label", "predicted", "confidence"]
    confidences, predicted = probabilities.max(dim=-1)
    for label, index, confidence in zip(labels, predicted.tolist(), confidences.tolist(), strict=True):
        yield [names[label], names[index], f"{confidence:.6f}"]


def _sequence_rows(names: Sequence[str], sequences: np.ndarray, decoded: torch.Tensor) -> Iterator[list[str]]:
    """Give the header, then a row for each image: decoded (images, longest), filled up with -1."""
    yield ["sequence", "predicted"]
    for pair in zip(sequences.tolist(), decoded.tolist(), strict=True):
        yield [" ".join(names[entry] for entry in sequence if entry != PADDING) for sequence in pair]
