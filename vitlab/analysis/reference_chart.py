"""Published learning curves on the page: dashed, in a chart of their own, with their source and what sets them apart.

They are of other data than any sweep, so they share no axis with one and nothing is compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitlab.analysis.chart import BOTTOM, HEIGHT, LEFT, SHAPES, TOP, WIDTH
from vitlab.analysis.drawing import LOOKS, limits, spread, value_ticks
from vitlab.analysis.page_tables import text
from vitlab.analysis.reference_curves import ReferenceCurve, reference_tables
from vitlab.analysis.wording import brief, sentence

_END = WIDTH - 90  # names of the lines stand right of the axis


def reference_section() -> str:
    """Return all bundled tables, a chart each."""
    charts = "".join(_figure(table) for table in reference_tables())
    words = "Published learning curves, on other data than the sweeps above: for reference, not for comparison."
    return f'<section><h2>Published curves</h2><p class="soft">{words}</p>{charts}</section>'


def _figure(table: Sequence[ReferenceCurve]) -> str:
    first = table[0]
    parts = [first.source, first.task, first.axis, first.caveat]
    key = " ".join(text(sentence(part)) for part in parts)
    return f'<figure class="reference">{_chart(table)}<p class="key">{key}</p></figure>'


def _chart(table: Sequence[ReferenceCurve]) -> str:
    sizes = sorted({size for curve in table for size in curve.train_sizes})
    ticks = value_ticks([error for curve in table for error in curve.errors])
    low, high = limits(sizes)

    def x(size: float) -> float:
        return round(LEFT + math.log(size / low) / math.log(high / low) * (_END - LEFT), 2)

    def y(error: float) -> float:
        return round(BOTTOM - 100 * error / ticks[-1] * (BOTTOM - TOP), 2)

    parts = [f'<text class="axis" x="{LEFT - 26}" y="{TOP - 16}">error, %</text>']
    for tick in ticks:
        height = y(tick / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{_END}" y1="{height}" y2="{height}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{height + 4}" text-anchor="end">{tick:g}</text>')
    for size in sizes:
        parts.append(
            f'<text class="tick" x="{x(size)}" y="{BOTTOM + 18}" text-anchor="middle">{text(brief(size))}</text>'
        )
    words = text(table[0].axis.partition(":")[0])
    middle = (LEFT + _END) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{BOTTOM + 37}" text-anchor="middle">{words}</text>')
    heights = spread([BOTTOM - y(curve.errors[-1]) for curve in table], gap=16, lowest=6)
    for number, (curve, height) in enumerate(zip(table, heights, strict=True)):
        places = [(x(size), y(error)) for size, error in zip(curve.train_sizes, curve.errors, strict=True)]
        line = "L".join(f"{across} {up}" for across, up in places)
        marks = "".join(SHAPES[LOOKS[number % len(LOOKS)].marker](*place) for place in places)
        name = f'<text class="name" x="{places[-1][0] + 9}" y="{BOTTOM - height + 4.5:.2f}">{text(curve.model)}</text>'
        drawn = f'<path class="beyond" d="M{line}"/><path class="hollow" d="{marks}"/>{name}'
        parts.append(f'<g class="m{number % len(LOOKS)}">{drawn}</g>')
    label = text(f"Published errors by images of pre-training: {table[0].source}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
