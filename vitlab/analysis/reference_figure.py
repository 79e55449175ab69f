"""Published learning curves in a figure for papers: dashed, in a panel of their own, with their source."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitlab.analysis.drawing import limits, looks, value_ticks
from vitlab.analysis.panels import MARKERS, SOFT, name_ends, prepare_panel
from vitlab.analysis.reference_curves import ReferenceCurve
from vitlab.analysis.wording import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAPER = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.5}  # behind the words, which lines would cross


def draw_reference(axes: Axes, table: Sequence[ReferenceCurve]) -> None:
    """Draw the published curves of one table; they are of other data than any sweep, so they share no axis with one.

    Args:
        axes: the panel.
        table: its curves.
    """
    first, style = table[0], looks([curve.model for curve in table])
    sizes = sorted({size for curve in table for size in curve.train_sizes})
    ticks = value_ticks([error for curve in table for error in curve.errors])
    prepare_panel(axes, "published, for reference", (first.axis.partition(":")[0], "error (%)"), ticks)
    axes.set_xlim(*limits(sizes))
    axes.set_xticks(sizes, [brief(size) for size in sizes])
    axes.set_xticks([], minor=True)
    for curve in table:
        look = style[curve.model]
        line = {"linestyle": (0, (3, 2)), "linewidth": 1.2, "marker": MARKERS[look.marker], "markersize": 4}
        errors = [100 * error for error in curve.errors]
        axes.plot(curve.train_sizes, errors, color=look.color, markerfacecolor="none", alpha=0.8, **line)
    ends = [(curve.train_sizes[-1], curve.errors[-1]) for curve in table]
    name_ends(axes, [(curve.model, style[curve.model].color) for curve in table], ends, 100, ticks[-1])
    words = "\n".join(textwrap.wrap(f"{first.source}. {first.task}; {first.caveat}.", 62))
    axes.annotate(words, (0, 0.02), xycoords="axes fraction", fontsize=6.5, color=SOFT, va="bottom", bbox=_PAPER)
