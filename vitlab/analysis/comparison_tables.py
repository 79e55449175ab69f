"""The page's section on two sweeps against each other: crossovers, gaps, arms and settings side by side."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.analysis.comparison_wording import arms_in_words, conclude_pair_change, crossover_words
from vitlab.analysis.page_tables import NONE, table, text
from vitlab.analysis.pair_tables import differences_table, p_value
from vitlab.analysis.settings_diff import SettingChange
from vitlab.analysis.sweep_comparison import ArmChange, PairChange, SweepComparison
from vitlab.analysis.wording import count, label, listing, percent, sentence, significant


def comparison_section(comparison: SweepComparison) -> str:
    """Return the section of one comparison.

    Args:
        comparison: of two sweeps.
    """
    first, second = (sweep.name for sweep in comparison.sweeps)
    parts = [f"<section><h2>{text(second)} against {text(first)}</h2>", _arms(comparison)]
    parts += [_crossovers(comparison), *(_gaps(change, comparison) for change in comparison.pairs)]
    parts += [_arm(change) for change in comparison.arms if change.differences and not change.is_same]
    return "".join([*parts, _settings(comparison.settings, (first, second)), "</section>"])


def _arms(comparison: SweepComparison) -> str:
    said = [sentence(arms_in_words(comparison))] if comparison.arms else []
    lost = [
        f"{listing([label(model) for model in alone])} {'is' if len(alone) == 1 else 'are'} in {sweep.name} alone."
        for number, sweep in enumerate(comparison.sweeps)
        if (alone := [m for m in sweep.result.models if m not in {change.arms[number] for change in comparison.arms}])
    ]
    return f'<p class="soft">{text(" ".join(said + lost))}</p>'


def _crossovers(comparison: SweepComparison) -> str:
    if not comparison.pairs:
        return ""
    first, second = (sweep.name for sweep in comparison.sweeps)
    columns = ("Pair", first, second, "Times as far out", "95 % interval", "Resamples that cross in both")
    rows, words = [], []
    for change in comparison.pairs:
        shift = change.shift
        cells = [*crossover_words(change.pairs), NONE, NONE, NONE]
        if shift is not None:
            cells[2] = significant(shift.ratio)
            cells[3] = NONE if shift.interval is None else _interval(shift.interval)
            cells[4] = NONE if shift.share_crossing is None else percent(shift.share_crossing, 0)
        name = listing([label(model) for model in change.models[0]])
        rows.append(f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>')
        if len(comparison.pairs) > 1:
            words.append(
                f"<p>{text(name)}: {text(sentence(conclude_pair_change(change, comparison.sweeps).words))}</p>"
            )
    return "".join(words) + table("Crossovers side by side, with their 95 % intervals", columns, [rows])


def _interval(ends: tuple[float | None, float | None]) -> str:
    low, high = ends
    return f"{'below any' if low is None else significant(low)} to {'above any' if high is None else significant(high)}"


def _gaps(change: PairChange, comparison: SweepComparison) -> str:
    if not change.gaps:
        return ""
    first, second = (sweep.name for sweep in comparison.sweeps)
    one, other = (label(model) for model in change.models[0])
    columns = ("Images", f"In {first}", f"In {second}", "Change", "95 % interval", "p, corrected", "Beyond the noise")
    rows = []
    for gap in change.gaps:
        known = gap.interval is not None
        cells = (
            f"{100 * gap.first:+.1f} points",
            f"{100 * gap.second:+.1f} points",
            f"{100 * gap.change:+.1f} points",
            f"{100 * gap.interval[0]:+.1f} to {100 * gap.interval[1]:+.1f}" if known else NONE,
            p_value(gap.adjusted_p_value) if known else NONE,
            "yes" if gap.is_clear else "no" if known else NONE,
        )
        cells = "".join(f"<td>{text(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{count(gap.train_size)}</th>{cells}</tr>')
    how = "on the same images and seeds" if change.is_paired else "each sweep on its own images or seeds"
    return table(f"The gap: {one} error minus {other} error, {how}", columns, [rows])


def _arm(change: ArmChange) -> str:
    where = "on the same images and seeds" if change.is_paired else "each on its own images or seeds"
    return differences_table(change, f"{where}; p corrected over all arms and sizes")


def _settings(changes: Sequence[SettingChange], names: tuple[str, str]) -> str:
    """Return the settings that differ; where none does, the sentence that says so."""
    if not changes:
        return "<p>The sweeps have the same settings, budgets, learning rates, sizes and seeds.</p>"
    rows = []
    for change in changes:
        where = listing([label(arm) for arm in change.arms]) if change.arms else "all"
        cells = "".join(f'<td class="text value">{text(value)}</td>' for value in (change.first, change.second))
        name = f'<th scope="row" class="setting">{text(change.setting)}</th>'
        rows.append(f'<tr>{name}<td class="text">{text(where)}</td>{cells}</tr>')
    return table("What differs in the settings", ("Setting", "Arms", *names), [rows], text_columns=(1, 2, 3))
