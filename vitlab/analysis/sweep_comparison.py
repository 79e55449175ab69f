"""Two sweeps of one task against each other: did the other recipe or model change the answer?

Three questions, from the narrow to the wide: is each arm better or worse than before, at which sizes; does the gap
between two arms change; does their crossover move. All are asked on the seeds and images that both sweeps share, where
they do. Differences of all arms together are one family of tests (Holm's correction), so are the gaps of each pair.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitlab.analysis.contrasts import Contrast, Group, measure_contrast
from vitlab.analysis.crossover_shift import CrossoverShift, measure_shift
from vitlab.analysis.data_efficiency import DataEfficiency
from vitlab.analysis.differences import Difference, correct_together
from vitlab.analysis.fairness_across import check_across
from vitlab.analysis.finding import Finding
from vitlab.analysis.selection import Point, paired_errors
from vitlab.analysis.settings_diff import SettingChange, compare_settings
from vitlab.analysis.significance import ALPHA, holm
from vitlab.analysis.sweep_pairing import Sweep, as_one, have_same_settings, match_arms, names_in_one, share_images
from vitlab.analysis.task_result import Pair, TaskResult, compare_models

_Couples = tuple[tuple[str, str], tuple[str, str]]  # two arms, as the first and as the second sweep call them


@dataclass(frozen=True)
class ArmChange:
    """One arm in both sweeps.

    Args:
        arms: its names in the first and the second sweep.
        models: how it is called beside the others, such as "ViT @ sweep".
        is_same: whether its settings, learning rates and budgets are the same in both.
        is_paired: whether errors were compared seed by seed, on the same images.
        differences: error in the first sweep minus that in the second, by shared size.
        data_efficiency: how many times the images one needs for the other's error; None without pairs.
    """

    arms: tuple[str, str]
    models: tuple[str, str]
    is_same: bool
    is_paired: bool
    differences: list[Difference]
    data_efficiency: DataEfficiency | None


@dataclass(frozen=True)
class GapChange:
    """How far two arms are apart in both sweeps at one size: error of the one minus that of the other.

    Args:
        train_size: in images.
        first: gap in the first sweep, on the seeds that count.
        second: gap in the second.
        change: second minus first.
        interval: 95 % interval of the change, of this size alone; None where seeds are too few.
        adjusted_p_value: of the change, after Holm's correction over the sizes; None likewise.
        is_clear: whether the gap changes beyond the noise.
        num_seeds: seeds that count.
    """

    train_size: int
    first: float
    second: float
    change: float
    interval: tuple[float, float] | None
    adjusted_p_value: float | None
    is_clear: bool
    num_seeds: int


@dataclass(frozen=True)
class PairChange:
    """Two arms that both sweeps compare.

    Args:
        models: the two arms as the first and as the second sweep call them, in one order.
        pairs: the comparison in the first and in the second sweep.
        is_paired: whether the sweeps were compared seed by seed, on the same images.
        gaps: how the gap changes, by shared size.
        shift: how the crossover moves; None unless both cross, the same way round.
    """

    models: _Couples
    pairs: tuple[Pair, Pair]
    is_paired: bool
    gaps: list[GapChange]
    shift: CrossoverShift | None


@dataclass(frozen=True)
class SweepComparison:
    """Two sweeps of one task against each other.

    Args:
        task: its name.
        sweeps: the first and the second.
        names: how each sweep's arms are called where both are drawn as one.
        together: both as one analysis, for charts.
        arms: the arms that both have.
        pairs: the pairs of arms that both compare.
        settings: in what the sweeps differ.
        findings: what is not matched between them.
    """

    task: str
    sweeps: tuple[Sweep, Sweep]
    names: tuple[dict[str, str], ...]
    together: TaskResult
    arms: list[ArmChange]
    pairs: list[PairChange]
    settings: list[SettingChange]
    findings: list[Finding]


def compare_sweeps(first: Sweep, second: Sweep, seed: int = 0) -> SweepComparison:
    """Return how the second sweep's results differ from the first one's.

    Args:
        first: the sweep to compare with.
        second: another one of the same task.
        seed: seed of the bootstrap.
    """
    task = first.plan.task
    matched = match_arms(first, second)
    name = f"{task}: {first.name} and {second.name}"
    called = names_in_one(first, second, matched)
    together = as_one(first, second, called, name)
    points = _points(first, second)
    arms = _correct([_arm_change(first, second, names, points, seed) for names in matched])
    pairs = _pair_changes(first, second, dict(matched), points, seed)
    together = replace(together, pairs=_drawn_pairs(together, first, second))
    changes = compare_settings(first, second, matched)
    findings = check_across((first, second), matched, changes, together)
    together = replace(together, findings=findings)
    return SweepComparison(task, (first, second), called, together, arms, pairs, changes, findings)


def _points(first: Sweep, second: Sweep) -> list[Point]:
    """Return all points of both, under names that tell the sweeps apart."""
    return [
        replace(point, model=sweep.called(point.model)) for sweep in (first, second) for point in sweep.result.points
    ]


def _drawn_pairs(together: TaskResult, first: Sweep, second: Sweep) -> list[Pair]:
    """Return the comparisons within the sweeps under the names of the chart, which shows their crossovers."""
    if first.plan.dial or second.plan.dial:
        return []
    own = [
        replace(pair, models=tuple(sweep.called(model) for model in pair.models), beyond=None)
        for sweep in (first, second)
        for pair in sweep.result.pairs
    ]
    return [pair for pair in own if pair.crossover.train_size is not None]


def _arm_change(first: Sweep, second: Sweep, arms: tuple[str, str], points: Sequence[Point], seed: int) -> ArmChange:
    models = first.called(arms[0]), second.called(arms[1])
    is_same = have_same_settings(first, second, arms)
    pair = compare_models(points, models, seed) if share_images(first, second, arms) else None
    if pair is not None:
        return ArmChange(arms, models, is_same, True, pair.differences, pair.data_efficiency)
    sizes, errors = _side_by_side(points, [(models[0],), (models[1],)])
    if not sizes:
        return ArmChange(arms, models, is_same, False, [], None)
    groups = [Group(errors[0], (1.0,)), Group(errors[1], (-1.0,))]
    contrast = measure_contrast(groups, [seed, zlib.crc32(" ".join(models).encode())])
    means = [np.nanmean(own[0], axis=1) for own in errors]
    return ArmChange(arms, models, is_same, False, _as_differences(sizes, contrast, means), None)


def _side_by_side(points: Sequence[Point], groups: Sequence[tuple[str, ...]]) -> tuple[list[int], list[np.ndarray]]:
    """Return the sizes that all groups of models have, and the errors of each group there."""
    own = [paired_errors(points, group) for group in groups]
    sizes = [size for size in own[0][0] if all(size in sizes for sizes, _ in own[1:])]
    return sizes, [errors[:, [have.index(size) for size in sizes]] for have, errors in own]


def _as_differences(sizes: Sequence[int], contrast: Contrast, means: Sequence[np.ndarray]) -> list[Difference]:
    rows = []
    for n, size in enumerate(sizes):
        known = contrast.p_values is not None
        rows.append(
            Difference(
                train_size=size,
                difference=float(contrast.values[n]),
                interval=tuple(float(ends[n]) for ends in contrast.intervals) if known else None,
                clear_leader=None,
                num_seeds=int(contrast.num_seeds[n]),
                mean_errors=tuple(float(own[n]) for own in means),
                p_value=float(contrast.p_values[n]) if known else None,
            )
        )
    return rows


def _correct(changes: list[ArmChange]) -> list[ArmChange]:
    """Correct the p-values of all arms together; those that are the same in both sweeps ask no question."""
    asked = [change for change in changes if not change.is_same]
    corrected = iter(correct_together([(change.models, change.differences) for change in asked]))
    return [change if change.is_same else replace(change, differences=next(corrected)) for change in changes]


def _pair_changes(
    first: Sweep, second: Sweep, matched: dict[str, str], points: Sequence[Point], seed: int
) -> list[PairChange]:
    changes = []
    for pair in first.result.pairs:
        one, other = (matched.get(model) for model in pair.models)
        found = [own for own in second.result.pairs if set(own.models) == {one, other} and one != other]
        if one is None or other is None or not found:
            continue
        names = (
            tuple(first.called(model) for model in pair.models),
            tuple(second.called(model) for model in (one, other)),
        )
        may_pair = all(share_images(first, second, arms) for arms in zip(pair.models, (one, other), strict=True))
        gaps, is_paired = _gaps(points, names, may_pair, seed)
        models, pairs = (pair.models, (one, other)), (pair, found[0])
        shift = _shift(pairs, models, names, points, may_pair, seed)
        changes.append(PairChange(models, pairs, is_paired, gaps, shift))
    return changes


def _shift(
    pairs: tuple[Pair, Pair], models: _Couples, names: _Couples, points: Sequence[Point], may_pair: bool, seed: int
) -> CrossoverShift | None:
    """Return how the crossover moves where both sweeps have one, the same arm ahead in the end."""
    crossovers = [pair.crossover for pair in pairs]
    if any(crossover.train_size is None for crossover in crossovers):
        return None
    after = [own.index(crossover.leader_after) for own, crossover in zip(models, crossovers, strict=True)]
    if after[0] != after[1]:
        return None
    sizes = crossovers[0].train_size, crossovers[1].train_size
    return measure_shift(points, names, sizes, tuple(after), may_pair, seed)


def _gaps(points: Sequence[Point], names: _Couples, may_pair: bool, seed: int) -> tuple[list[GapChange], bool]:
    """Return how the gap changes at each shared size, and whether seed by seed."""
    sizes, errors = paired_errors(points, (*names[0], *names[1])) if may_pair else ([], None)
    is_paired = bool(sizes)
    groups = [Group(errors, (-1.0, 1.0, 1.0, -1.0))] if is_paired else []
    each = [errors[:2], errors[2:]] if is_paired else []
    if not is_paired:
        sizes, each = _side_by_side(points, names)
        groups = [Group(each[0], (-1.0, 1.0)), Group(each[1], (1.0, -1.0))]
    if not sizes:
        return [], False
    contrast = measure_contrast(groups, [seed, zlib.crc32(" ".join((*names[0], *names[1])).encode())])
    adjusted = None if contrast.p_values is None else holm(contrast.p_values)
    gaps = [np.round(np.nanmean(own[0] - own[1], axis=1), 12) for own in each]
    rows = [
        GapChange(
            train_size=size,
            first=float(gaps[0][n]),
            second=float(gaps[1][n]),
            change=float(contrast.values[n]),
            interval=None if adjusted is None else tuple(float(ends[n]) for ends in contrast.intervals),
            adjusted_p_value=None if adjusted is None else float(adjusted[n]),
            is_clear=adjusted is not None and bool(adjusted[n] < ALPHA),
            num_seeds=int(contrast.num_seeds[n]),
        )
        for n, size in enumerate(sizes)
    ]
    return rows, is_paired
