"""A finding of the fairness check: what is not matched between compared arms, how grave it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vitlab.analysis.wording import count, listing

LEVELS = ("refuse", "warn", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is not matched, or that a reader must know; equal to another that says the same.

    Args:
        level: "refuse": the comparison should not be believed as it stands; "warn": a reader must know; "note": stated
            for the record.
        check: name of the check, for programs.
        words: what was found, and what to do about it.
        models: the arms that it is about; empty for all.
        train_sizes: the sizes that it is about, in images; empty for all.
    """

    level: str
    check: str
    words: str
    models: tuple[str, ...] = field(default=(), compare=False)
    train_sizes: tuple[int, ...] = field(default=(), compare=False)


def at_images(train_sizes: Iterable[int], planned: Sequence[int]) -> str:
    """Return "at every size" or "at 100 and 250 images".

    Args:
        train_sizes: the sizes to name, in images.
        planned: all sizes of the sweep, in images.
    """
    sizes = sorted(set(train_sizes))
    return (
        "at every size" if len(sizes) == len(planned) > 1 else f"at {listing([count(size) for size in sizes])} images"
    )
