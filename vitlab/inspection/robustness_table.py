"""The robustness table: models side by side, on the same images changed in the same way.

Patch shuffle, patch drop and occlusion as in Naseer et al., arXiv 2105.10497; common corruptions as in Hendrycks and
Dietterich, arXiv 1903.12261; shift consistency as in Zhang, arXiv 1904.11486.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vitlab.inspection.corruptions import CORRUPTIONS, SEVERITIES, check_bytes, corrupt
from vitlab.inspection.probes import drop_patches, occlude, predict_classes, shift_consistency, shuffle_patches

Normalize = Callable[[Tensor], Tensor]
_DROPPED_PERCENT = (25, 50, 75)
_SHIFTS_PX = (1, 2, 4)


@dataclass(frozen=True)
class ProbeRow:
    """What one probe at one level does to each model.

    Args:
        probe: The probe's name.
        level: How strong it is: see unit.
        unit: What level counts, such as px, %, severity.
        measure: `accuracy`: share of images given their label; `agreement`: share given the class that the unchanged
            image is given.
        values: The measure of each model, 0 to 1, by the model's name.
        num_images: Images that were measured.
    """

    probe: str
    level: int
    unit: str
    measure: str
    values: dict[str, float]
    num_images: int

    @property
    def level_text(self) -> str:
        """The level with its unit, such as 4 px; empty where nothing was changed."""
        if not self.unit:
            return ""
        return f"severity {self.level}" if self.unit == "severity" else f"{self.level} {self.unit}"


def robustness_table(
    models: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    normalize: Normalize | Mapping[str, Normalize] | None = None,
    seed: int = 0,
    patch_size: int | None = None,
    saliency: Tensor | None = None,
    batch_size: int = 64,
) -> list[ProbeRow]:
    """Measure how models bear changes of the image: shuffled and covered patches, shifts, common corruptions.

    Args:
        models: The models under the names to show; each gives logits (batch, classes) and is left as it was.
        images: Bytes, 0 to 255.
        labels: The images' classes.
        normalize: What makes of images from 0 to 1 what the models want, one for all or one for each name; None:
            nothing.
        seed: Seed of everything random; every model sees the same changed images.
        patch_size: Side of the patches to drop in pixels, which divides the images; None: the divisor of both sides
            nearest to an eighth of the shorter.
        saliency: How much each pixel matters, such as grad_cam's map of one of the models, to drop the patches that
            matter most; None: no such rows.
        batch_size: Images at a time, 1 or more.

    Shape: images (images, channels, height, width), labels (images,), saliency (images, height, width).

    Raises:
        ValueError: No models, images that are no bytes, labels that are not one for each image, or a bad patch_size.
    """
    _check(models, images, labels, normalize)
    normalizers = normalize if isinstance(normalize, Mapping) else dict.fromkeys(models, normalize)
    patch_size = _usual_patch_size(images) if patch_size is None else patch_size

    def row(probe: str, level: int, unit: str, changed: Tensor) -> ProbeRow:
        accuracy = {
            name: (predict_classes(model, changed, normalizers[name], batch_size) == labels.to(images.device))
            .double()
            .mean()
            .item()
            for name, model in models.items()
        }
        return ProbeRow(probe, level, unit, "accuracy", accuracy, len(images))

    rows = [row("none", 0, "", images)]
    for probe, level, unit, change in _changes(images, patch_size, saliency, seed):
        rows.append(row(probe, level, unit, change(images)))
    for shift_px in (pixels for pixels in _SHIFTS_PX if pixels < min(images.shape[-2:])):
        agreement = {
            name: shift_consistency(model, images, shift_px, normalizers[name], batch_size)
            for name, model in models.items()
        }
        rows.append(ProbeRow("shift", shift_px, "px", "agreement", agreement, len(images)))
    return rows


def table_as_markdown(rows: Sequence[ProbeRow]) -> str:
    """Return the table in Markdown, in percent, a column for each model."""
    names = [name.replace("|", "\\|").replace("\n", " ") for name in _names(rows)]
    lines = [f"| probe | level | measure | {' | '.join(names)} |", f"|---|---|---|{'---:|' * len(names)}"]
    for row in rows:
        values = " | ".join(f"{100 * row.values[name]:.1f} %" for name in _names(rows))
        lines.append(f"| {row.probe.replace('_', ' ')} | {row.level_text} | {row.measure} | {values} |")
    return "\n".join(lines) + "\n"


def table_as_csv(rows: Sequence[ProbeRow]) -> str:
    """Return the table as comma-separated values, shares from 0 to 1, a column for each model."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = _names(rows)
    writer.writerow(["probe", "level", "unit", "measure", "num_images", *names])
    for row in rows:
        values = [row.values[name] for name in names]
        writer.writerow([row.probe, row.level, row.unit, row.measure, row.num_images, *values])
    return file.getvalue()


def _changes(
    images: Tensor, patch_size: int, saliency: Tensor | None, seed: int
) -> list[tuple[str, int, str, Callable[[Tensor], Tensor]]]:
    """Return name, level, unit and function of every probe that changes the images, mild before strong."""
    shorter = min(images.shape[-2:])
    changes: list[tuple[str, int, str, Callable[[Tensor], Tensor]]] = [
        ("patch_shuffle", side, "px", partial(shuffle_patches, patch_size=side, seed=seed))
        for side in _shuffled_sides(images)
    ]
    for name, chosen_by in [("patch_drop_random", None)] + (
        [] if saliency is None else [("patch_drop_salient", saliency)]
    ):
        for percent in _DROPPED_PERCENT:
            drop = partial(drop_patches, patch_size=patch_size, share=percent / 100, saliency=chosen_by, seed=seed)
            changes.append((name, percent, "%", drop))
    for size_px in sorted({max(1, shorter // 4), max(1, shorter // 2)}):
        changes.append(("occlusion", size_px, "px", partial(occlude, size_px=size_px, seed=seed)))
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            changes.append(
                (name, severity, "severity", partial(corrupt, corruption=name, severity=severity, seed=seed))
            )
    return changes


def _check(models: Mapping[str, nn.Module], images: Tensor, labels: Tensor, normalize: object) -> None:
    check_bytes(images)
    if not models:
        raise ValueError("there are no models to measure; give at least one, as {name: model}")
    if tuple(labels.shape) != (len(images),):
        raise ValueError(f"labels must be one class for each of the {len(images)} images, got {tuple(labels.shape)}")
    missing = [name for name in models if isinstance(normalize, Mapping) and name not in normalize]
    if missing:
        raise ValueError(f"normalize has no entry for {missing[0]!r}; give one for each model, or one for all")
    if torch.is_floating_point(labels):
        raise ValueError(f"labels must be whole numbers, got {labels.dtype}")


def _divisors(images: Tensor) -> list[int]:
    height, width = images.shape[-2:]
    return [side for side in range(1, min(height, width) + 1) if height % side == 0 and width % side == 0]


def _usual_patch_size(images: Tensor) -> int:
    eighth = min(images.shape[-2:]) / 8
    return min(_divisors(images), key=lambda side: abs(side - eighth))


def _shuffled_sides(images: Tensor) -> list[int]:
    """Return the patch sides nearest to a half, a quarter and an eighth of the image, those that move anything."""
    shorter, sides = min(images.shape[-2:]), [side for side in _divisors(images) if side < max(images.shape[-2:])]
    nearest = {min(sides, key=lambda side: abs(side - shorter / parts)) for parts in (2, 4, 8) if sides}
    return sorted(nearest, reverse=True)


def _names(rows: Sequence[ProbeRow]) -> list[str]:
    return list(rows[0].values) if rows else []
