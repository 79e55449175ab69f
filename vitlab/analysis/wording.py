"""Numbers and names in words, so that the page, the summary and the terminal say one thing in one way."""

from __future__ import annotations

import math
from collections.abc import Sequence

_LABELS = {"vit": "ViT", "cnn": "CNN", "resnet": "ResNet", "rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "mlp": "MLP"}
_AT = " @ "
_LEAST_OF_A_SWEEP = 4  # letters of its name in a short one


def label(model: str) -> str:
    """Return how a model's name is written in titles and legends ("vit" becomes "ViT")."""
    return _LABELS.get(model.lower(), model)


def arm_in_sweep(model: str, sweep: str) -> str:
    """Return how an arm is called where several sweeps have one of its name: "ViT @ sweep"."""
    return f"{label(model)}{_AT}{sweep}"


def the(model: str) -> str:
    """Return the name as the subject of a sentence: "the ViT", and "vit_small" for a name that is not a family's."""
    return f"the {_LABELS[model.lower()]}" if model.lower() in _LABELS else model


def count(number: float) -> str:
    """Return a whole number with thousands separators."""
    return f"{round(number):,}"


def amount(number: float) -> str:
    """Return an amount of a budget: a whole number with thousands separators, or a fraction (of seconds) as it is."""
    return count(number) if number == round(number) else f"{number:g}"


def brief(number: float) -> str:
    """Return a large number with its unit, at three significant digits: "1.3 M"; small ones as they are."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{float(f'{number / size:.3g}'):g} {unit}"
    return count(number) if number >= 1000 else f"{number:.3g}"


def about(number: float) -> str:
    """Return a count at two significant digits: more would claim a precision that no crossover has."""
    if number <= 0 or not math.isfinite(number):
        return count(number) if math.isfinite(number) else "infinity"
    digits = 1 - math.floor(math.log10(number))
    return count(round(number, digits))


def significant(number: float) -> str:
    """Return a positive number at two significant digits below 10, and whole above."""
    return f"{number:.2f}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share between 0 and 1 in percent."""
    return f"{100 * share:.{digits}f} %"


def short(name: str, longest: int = 16) -> str:
    """Return the name, cut where a drawing has no room for all of it.

    Args:
        name: of a model, or of an arm in a sweep: of these the sweep is cut in its middle, since names of sweeps often
            begin alike.
        longest: number of characters.
    """
    model, at, sweep = name.partition(_AT)
    if at and len(name) > longest:
        if len(model + at) + _LEAST_OF_A_SWEEP > longest:
            model = f"{model[: longest - len(at) - _LEAST_OF_A_SWEEP - 1]}\u2026"
        room = longest - len(model + at)
        return f"{model}{at}{_middle_cut(sweep, room)}"
    return name if len(name) <= longest else f"{name[: longest - 1]}\u2026"


def _middle_cut(name: str, longest: int) -> str:
    kept = longest - 1
    return name if len(name) <= longest else f"{name[: kept - kept // 2]}\u2026{name[len(name) - kept // 2 :]}"


def plural(number: int, noun: str) -> str:
    """Return "1 seed" or "3 seeds"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listing(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def sentence(text: str) -> str:
    """Return the text with a capital first letter and a full stop."""
    first = text.split(" ", 1)[0]
    # A model's name such as vit_small keeps its own spelling.
    start = text[:1].upper() + text[1:] if first.rstrip(",;:").isalpha() else text
    return start + ("" if text.endswith((".", "!", "?")) else ".")


def interval_of_sizes(interval: Sequence[float | None], smallest: float, largest: float) -> str:
    """Return an interval of train sizes in words; an open end is named after the edge of the measured range.

    Args:
        interval: lower and upper end in images; None where the end lies outside the measured range.
        smallest: smallest measured train size, in images.
        largest: largest measured train size, in images.
    """
    low, high = interval
    low_words = f"below {count(smallest)}" if low is None else about(low)
    high_words = f"above {count(largest)}" if high is None else about(high)
    return f"{low_words} to {high_words}"
