"""`vitlab predict`: one CSV row per test image, written whole once the last batch is in."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from vitlab.atomic_file import atomic_file


class PredictionWriter(BasePredictionWriter):
    """Write image index, true class, predicted class and its probability to `predictions.csv`.

    With several processes each writes its share, `predictions-RANK.csv`.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file; Lightning calls this with the probabilities (batch, classes) of every batch."""
        loader, names = trainer.predict_dataloaders, trainer.datamodule.class_names
        positions = [int(position) for plan in loader.sampler for position in plan.positions]
        labels = trainer.datamodule.dataset.test().labels
        confidences, predicted = torch.cat(list(predictions)).max(dim=-1)
        share = "" if trainer.world_size == 1 else f"-{trainer.global_rank}"
        path = Path(trainer.default_root_dir) / f"predictions{share}.csv"
        with atomic_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", "label", "predicted", "confidence"])
            for position, index, confidence in zip(positions, predicted.tolist(), confidences.tolist(), strict=False):
                writer.writerow([position, names[labels[position]], names[index], f"{confidence:.6f}"])
        print(f"predictions of {len(predicted):,} test images: {path}")
