"""Measures as files: a table and a figure for each, of one model or of two side by side.

How far heads look (arXiv 2108.08810, section 4), what the center listens to (arXiv 1701.04128), how alike layers are
(CKA, arXiv 2010.15327), and what changed images do to accuracy (arXiv 2105.10497, 1903.12261).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitlab.atomic_file import atomic_file
from vitlab.inspection.attention_distance import attention_entropy, mean_attention_distance
from vitlab.inspection.capture import capture
from vitlab.inspection.receptive_field import effective_receptive_field
from vitlab.inspection.robustness_table import robustness_table, table_as_csv
from vitlab.inspection.similarity import cka

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH_SIZE = 32


@dataclass(frozen=True)
class Subject:
    """A model to be measured, and the images that it is shown.

    Args:
        name: What tables call it; no two alike.
        model: Images to logits.
        images: uint8, the same pictures for all subjects, (batch, channels, height, width).
        normalize: From uint8 images to what the model takes.
    """

    name: str
    model: nn.Module
    images: Tensor
    normalize: Callable[[Tensor], Tensor]

    @property
    def inputs(self) -> Tensor:
        """What the model takes, (batch, channels, height, width)."""
        return self.normalize(self.images)


def write_measures(
    kinds: Sequence[str], subjects: Sequence[Subject], folder: Path, labels: Tensor | None = None
) -> list[Path]:
    """Measure models and write KIND.csv and, where there is one, KIND.png; all or nothing is measured first.

    Args:
        kinds: Of distance, erf, cka, robustness.
        subjects: One or two models.
        folder: Where to write.
        labels: The images' classes, (batch,), for robustness; None: unknown.

    Returns:
        The files.

    Raises:
        ValueError: An unknown kind, or a measure that these models or images do not allow.
    """
    check_kinds(kinds)
    contents: dict[str, bytes] = {}
    for kind in dict.fromkeys(kinds):
        table, figure = KINDS[kind](subjects, labels)
        contents[f"{kind}.csv"] = table.encode()
        if figure is not None:
            contents[f"{kind}.png"] = _png(figure)
    for name, content in contents.items():
        with atomic_file(Path(folder) / name, "wb") as file:
            file.write(content)
    return [Path(folder) / name for name in contents]


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse measures that are not there.

    Raises:
        ValueError: One is unknown, or none is named.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        what = f"unknown measure {unknown[0]!r}" if unknown else "no measure"
        raise ValueError(f"{what}; use one or more of {','.join(KINDS)}, with commas between")


def _distance(subjects: Sequence[Subject], labels: Tensor | None) -> tuple[str, Figure]:
    """How far each head looks, in pixels, and how spread its attention is."""
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        inputs = subject.inputs
        try:
            with torch.no_grad(), capture(subject.model) as record:
                subject.model(inputs)
        except ValueError:
            if len(subjects) == 1:
                raise
            continue  # a CNN beside a ViT looks by its kernels; erf measures both
        for layer, (info, weights) in enumerate(zip(record.layers, record.weights, strict=True)):
            if info.grid is None:
                raise ValueError(f"distance needs tokens on one grid, and layer {info.name} of {subject.name} has none")
            distances = mean_attention_distance(weights, info.grid, inputs.shape[-1] / info.grid.width)
            entropies = attention_entropy(weights)
            rows += [
                {
                    "model": subject.name,
                    "layer": layer,
                    "name": info.name,
                    "head": head,
                    "distance_px": round(distance, 3),
                    "entropy_nats": round(entropy, 4),
                }
                for head, (distance, entropy) in enumerate(zip(distances.tolist(), entropies.tolist(), strict=True))
            ]
    if not rows:
        raise ValueError(f"distance needs a model with attention; {_names(subjects)} has none")
    figure, axes = _figure(5.2, 3.4)
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        axes.scatter([row["layer"] for row in own], [row["distance_px"] for row in own], s=18, label=name, alpha=0.8)
    axes.set(xlabel="layer", ylabel="mean attention distance (px)", title="How far heads look (a dot a head)")
    axes.set_ylim(0, 1.15 * max(row["distance_px"] for row in rows) or 1)
    axes.set_xticks(sorted({row["layer"] for row in rows}))
    axes.legend(frameon=False, loc="lower left")
    return _csv(rows), figure


def _erf(subjects: Sequence[Subject], labels: Tensor | None) -> tuple[str, Figure]:
    """Which pixels the center of the last feature map listens to."""
    fields = {subject.name: effective_receptive_field(subject.model, subject.inputs) for subject in subjects}
    figure, panels = _figure(3.2 * len(fields), 3.4, columns=len(fields))
    for axes, (name, field) in zip(panels, fields.items(), strict=True):
        picture = axes.imshow((field.map / field.map.max()).numpy(), cmap="inferno", vmin=0, vmax=1)
        axes.set_title(f"{name}: half within {field.radius_50_px:.1f} px")
        axes.set(xlabel="column (px)", ylabel="row (px)")
        figure.colorbar(picture, ax=axes, shrink=0.7, label="share of the largest gradient")
    rows = [
        {
            "model": name,
            "layer": field.layer,
            "row_px": round(field.row, 2),
            "column_px": round(field.column, 2),
            "radius_50_px": round(field.radius_50_px, 2),
            "radius_95_px": round(field.radius_95_px, 2),
        }
        for name, field in fields.items()
    ]
    return _csv(rows), figure


def _cka(subjects: Sequence[Subject], labels: Tensor | None) -> tuple[str, Figure]:
    """How alike two models' layers, or one model's own, find the images."""
    first, second = subjects[0], subjects[-1]
    inputs = first.inputs
    if second is not first and (inputs.shape != second.inputs.shape or not torch.equal(inputs, second.inputs)):
        raise ValueError(
            f"cka shows both models the same numbers, and {first.name} and {second.name} want other sizes or "
            "normalizations; compare models of the same data"
        )
    similarity = cka(first.model, second.model, inputs.split(_even_batch(len(inputs))))
    figure, axes = _figure(4.6, 4.0)
    picture = axes.imshow(similarity.matrix.numpy(), cmap="magma", vmin=0, vmax=1, origin="lower")
    axes.set_xticks(range(len(similarity.layers_b)), similarity.layers_b, rotation=90, fontsize=6)
    axes.set_yticks(range(len(similarity.layers_a)), similarity.layers_a, fontsize=6)
    axes.set(xlabel=second.name, ylabel=first.name, title=f"CKA of layers ({similarity.num_images} images)")
    figure.colorbar(picture, ax=axes, label="CKA (1: alike up to rotation and scale)")
    rows = [
        {f"layer of {first.name}": a, f"layer of {second.name} (columns)": b, "cka": round(value, 4)}
        for a, row in zip(similarity.layers_a, similarity.matrix.tolist(), strict=True)
        for b, value in zip(similarity.layers_b, row, strict=True)
    ]
    return _csv(rows), figure


def _robustness(subjects: Sequence[Subject], labels: Tensor | None) -> tuple[str, None]:
    """What changed images do to accuracy."""
    if labels is None:
        raise ValueError(
            "robustness needs the images' classes: leave --images out, so that the checkpoint's own validation images "
            "are taken (--num-images says how many)"
        )
    first = subjects[0]
    if any(subject.images.shape != first.images.shape for subject in subjects):
        raise ValueError("robustness shows all models the same images; these models take images of different sizes")
    models = {subject.name: subject.model for subject in subjects}
    normalize = {subject.name: partial(_normalize_shares, subject.normalize) for subject in subjects}
    return table_as_csv(robustness_table(models, first.images, labels, normalize)), None


def _normalize_shares(normalize: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Normalize images from 0 to 1, as the probes change them, by what takes them from 0 to 255."""
    return normalize(pixels * 255)


KINDS = {"distance": _distance, "erf": _erf, "cka": _cka, "robustness": _robustness}


def _even_batch(num_images: int) -> int:
    """Return a batch size near BATCH_SIZE that leaves no last batch too small for the estimator."""
    return -(-num_images // max(1, round(num_images / BATCH_SIZE)))


def _names(subjects: Iterable[Subject]) -> str:
    return " and ".join(subject.name for subject in subjects)


def _figure(width: float, height: float, columns: int | None = None) -> tuple[Figure, Any]:
    """Return a figure and its panel, or its panels where columns are named; no pyplot, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots() if columns is None else figure.subplots(1, columns, squeeze=False)[0]


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=180, metadata={"Software": None})
    return content.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
