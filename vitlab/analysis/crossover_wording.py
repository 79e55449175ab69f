"""What the differences between two models say about who leads where, in half sentences."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.analysis.differences import Difference
from vitlab.analysis.power import MAX_SEEDS, POWER, MoreSeeds
from vitlab.analysis.wording import about, count, listing, percent, plural, the


def leads_in_turn(leaders: Sequence[str], positions: Sequence[float]) -> str:
    """Say who leads up to which crossing.

    Args:
        leaders: names in the order in which they lead, one more than positions.
        positions: of the crossings, in images.
    """
    parts = [f"{the(leaders[0])} leads up to about {about(positions[0])} images"]
    middle = zip(leaders[1:-1], positions[1:], strict=True)
    parts += [f"{the(leader)} from there to about {about(position)}" for leader, position in middle]
    return ", ".join([*parts, f"{the(leaders[-1])} from there on"])


def clear_leads(differences: Sequence[Difference], leaders: tuple[str, str]) -> str:
    """Say who leads beyond the noise where, if anyone does.

    Args:
        differences: by growing size.
        leaders: who leads before and after the sizes at which nothing is clear.
    """
    sizes = [difference.train_size for difference in differences]
    clear = {model: [d.train_size for d in differences if d.clear_leader == model] for model in leaders}
    if not any(clear.values()):
        return f"no clear leader {measured(sizes, 'any')}"
    parts, rest = [], "elsewhere"
    for model, where in clear.items():
        if where and where == sizes[: len(where)]:
            parts.append(f"{the(model)} leads {'up to' if len(where) > 1 else 'at'} {count(where[-1])} images")
            rest = "above that"
        elif where and where == sizes[-len(where) :]:
            parts.append(f"{the(model)} leads from {count(where[0])} images on")
            rest = "below that"
        elif where:
            parts.append(f"{the(model)} leads at {listed(where)}")
    return f"{'; '.join(parts)}; {rest if len(parts) == 1 else 'elsewhere'} no lead is clear"


def seeds_wanted(wanted: Sequence[MoreSeeds]) -> str:
    """Say how many more seeds at which sizes would settle who leads.

    Args:
        wanted: one or two sizes.
    """
    if not wanted or any(size.more_seeds is None for size in wanted):
        return f"undecided at this noise, and {MAX_SEEDS} more seeds at one size would hardly settle it"
    first, *others = wanted
    parts = [f"{plural(first.more_seeds, 'more seed')} at {count(first.train_size)} images"]
    parts += [f"{count(other.more_seeds)} at {count(other.train_size)} images" for other in others]
    return f"undecided at this noise: run {listing(parts)} to settle it with {percent(POWER, 0)} power"


def measured(sizes: Sequence[int], which: str = "every") -> str:
    """Say which sizes were measured.

    Args:
        sizes: growing, in images.
        which: "every" or "any".
    """
    if len(sizes) == 1:
        return f"at the one measured size, {count(sizes[0])} images"
    return f"at {which} measured size from {count(sizes[0])} to {count(sizes[-1])} images"


def listed(sizes: Sequence[int]) -> str:
    """Return sizes as "100, 250 and 600 images"."""
    return f"{listing([count(size) for size in sizes])} images"
