"""The rules by which results decide on a statement: reproduced, contradicted, undecided, or out of scale.

A statement is reproduced or contradicted only beyond the noise (the 95 % intervals of the sweep). "Out of scale" means
that the results cannot speak for or against it, such as a sweep that ends below the sizes that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vitlab.analysis.claim_evidence import Couple, Evidence
from vitlab.analysis.wording import about, count, label, percent, significant, the

Claim = Mapping[str, Any]

REPRODUCED, CONTRADICTED, UNDECIDED, OUT_OF_SCALE = "reproduced", "contradicted", "undecided", "out of scale"


@dataclass(frozen=True)
class Ruling:
    """What one task says of one statement.

    Args:
        verdict: "reproduced", "contradicted", "undecided" or "out of scale".
        figure: what was measured, in words.
        reason: why it is undecided or out of scale; empty otherwise.
    """

    verdict: str
    figure: str
    reason: str = ""


def rule_on_couple(claim: Claim, evidence: Evidence, couple: Couple) -> Ruling:
    """Return what two models' results say of a statement on their comparison.

    Args:
        claim: one entry of published_claims.json whose rule compares two models.
        evidence: of one task.
        couple: the models, in the claim's order.
    """
    return _COUPLE_RULES[claim["rule"]](claim, evidence.pair_of(couple), couple)


def rule_on_model(claim: Claim, evidence: Evidence, model: str) -> Ruling:
    """Return what one model's results say of a statement on it.

    Args:
        claim: one entry of published_claims.json whose rule is about one model.
        evidence: of one task.
        model: name in the sweep.
    """
    return _MODEL_RULES[claim["rule"]](claim, evidence, model)


def compares_models(claim: Claim) -> bool:
    """Say whether a claim's rule compares two models."""
    return claim["rule"] in _COUPLE_RULES


def _leads(claim: Claim, pair: dict[str, Any], couple: Couple) -> Ruling:
    """The first model has the lower error at one end of the measured sizes."""
    difference = pair["differences"][0 if claim["at"] == "smallest" else -1]
    gap, low, high = _oriented(pair, difference, couple)
    figure = f"{_where(difference)} {_gap_in_words(couple, gap, low, high)}"
    if low is None:
        return Ruling(UNDECIDED, figure, "one seed gives no interval")
    if low <= 0 <= high:
        return Ruling(UNDECIDED, figure, "within the noise; run more seeds")
    return Ruling(REPRODUCED if high < 0 else CONTRADICTED, figure)


def _equals(claim: Claim, pair: dict[str, Any], couple: Couple) -> Ruling:
    """The two models' errors at the largest size are within the tolerance of each other."""
    difference, tolerance = pair["differences"][-1], claim["tolerance"]
    gap, low, high = _oriented(pair, difference, couple)
    figure = f"{_where(difference)} {_gap_in_words(couple, gap, low, high)}"
    if low is None:
        return Ruling(UNDECIDED, figure, "one seed gives no interval")
    if -tolerance <= low and high <= tolerance:
        return Ruling(REPRODUCED, figure)
    if low > tolerance or high < -tolerance:
        return Ruling(CONTRADICTED, figure)
    reason = f"the interval is wider than the {100 * tolerance:.1f} points within which they count as equal"
    return Ruling(UNDECIDED, figure, reason)


def _needs_fewer(claim: Claim, pair: dict[str, Any], couple: Couple) -> Ruling:
    """The second model needs more images than the first for the same error; by a factor in a range, if one is given."""
    efficiency = pair["data_efficiency"]
    if efficiency["ratio"] is None:
        return Ruling(UNDECIDED, efficiency["reason"] or "no ratio", "the curves share no range of errors")
    ratio, interval = efficiency["ratio"], efficiency["interval"] or (None, None)
    if efficiency["needs_more"] != couple[1]:
        ends = [None if end is None else 1 / end for end in interval]
        ratio, interval = 1 / ratio, (ends[1], ends[0])
    low, high = interval
    written = "" if low is None or high is None else f" (95 % interval {significant(low)} to {significant(high)})"
    figure = f"{the(couple[1])} needs {significant(ratio)} times{written} the images of {the(couple[0])}"
    if low is None or high is None:
        return Ruling(UNDECIDED, figure, "no interval")
    least, most = claim.get("number") or (1.0, float("inf"))
    if low > most or high < least:
        return Ruling(CONTRADICTED, figure)
    if "number" in claim:
        inside = least <= ratio <= most
        return (
            Ruling(REPRODUCED, figure) if inside else Ruling(UNDECIDED, figure, "the interval reaches into the range")
        )
    return Ruling(REPRODUCED, figure) if low > 1 else Ruling(UNDECIDED, figure, "within the noise; run more seeds")


def _overtakes(claim: Claim, pair: dict[str, Any], couple: Couple) -> Ruling:
    """The first model is behind with few images and ahead with many; at a size in a range, if one is given."""
    crossover, largest = pair["crossover"], pair["train_sizes"][-1]
    crosses = crossover["verdict"] == "crosses" and crossover["share_crossing"] is not None
    if crosses and crossover["leader_after"] == couple[0]:
        low, high = (None if end is None else about(end) for end in crossover["interval"])
        size, figure = (
            crossover["train_size"],
            f"the lead changes to {the(couple[0])} at {about(crossover['train_size'])} images",
        )
        figure += f" (95 % interval {low or 'open'} to {high or 'open'})"
        if "number" not in claim or claim["number"][0] <= size <= claim["number"][1]:
            return Ruling(REPRODUCED, figure)
        return Ruling(CONTRADICTED, figure)
    figure = pair["words"]
    if crosses:
        return Ruling(CONTRADICTED, figure)
    published = claim.get("published_train_sizes")
    if published and largest < published[1] and crossover["leader_after"] != couple[0]:
        reason = f"the sweep ends at {count(largest)} images, the statement's change lies below {count(published[1])}"
        return Ruling(OUT_OF_SCALE, figure, reason)
    if crossover["verdict"] == "leads throughout" and crossover["share_crossing"] is not None:
        if crossover["leader_after"] == couple[0]:
            reason = f"{the(couple[0])} is ahead already at {count(pair['train_sizes'][0])} images; begin with fewer"
            return Ruling(OUT_OF_SCALE, figure, reason)
        return Ruling(CONTRADICTED, figure)
    return Ruling(UNDECIDED, figure, "within the noise; run more seeds")


def _never_overtakes(claim: Claim, pair: dict[str, Any], couple: Couple) -> Ruling:
    """The first model stays behind up to a number of images."""
    crossover, largest, figure = pair["crossover"], pair["train_sizes"][-1], pair["words"]
    ahead = [d["train_size"] for d in pair["differences"] if d["clear_leader"] == couple[0]]
    if ahead:
        return Ruling(CONTRADICTED, figure)
    if largest < claim["min_train_size"]:
        reason = f"the sweep ends at {count(largest)} images, the statement is about {count(claim['number'][0])}"
        return Ruling(OUT_OF_SCALE, figure, f"{reason}; nothing contradicts it so far")
    if crossover["verdict"] == "leads throughout" and crossover["share_crossing"] is not None:
        return Ruling(REPRODUCED, figure)
    return Ruling(UNDECIDED, figure, "within the noise; run more seeds")


def _accuracy(claim: Claim, evidence: Evidence, model: str) -> Ruling:
    """The model's accuracy at the largest size lies in a range."""
    point = evidence.points_of(model)[-1]
    accuracy, size, params = 1 - point["mean_error"], point["train_size"], evidence.params_of(model)
    known = "" if params is None else f" with {count(params)} parameters"
    figure = f"{label(model)}{known} at {count(size)} images: {percent(accuracy)} accuracy"
    least, most = claim["params"]
    if size < claim["min_train_size"]:
        reason = f"the sweep ends at {count(size)} images, the statement needs {count(claim['min_train_size'])} or more"
        return Ruling(OUT_OF_SCALE, figure, reason)
    if params is None or not least <= params <= most:
        reason = f"the statement is about networks of {count(least)} to {count(most)} parameters"
        return Ruling(OUT_OF_SCALE, figure, reason)
    low, high = claim["number"]
    inside = low - claim["tolerance"] <= accuracy <= high + claim["tolerance"]
    return Ruling(REPRODUCED if inside else CONTRADICTED, figure)


def _exponent(claim: Claim, evidence: Evidence, model: str) -> Ruling:
    """The fitted power law's exponent lies in a range."""
    (fit,) = [fit for fit in evidence.summary["fits"] if fit["model"] == model]
    if fit.get("b") is None:
        return Ruling(UNDECIDED, "no power law fitted", fit.get("reason") or "too few sizes")
    figure = f"{label(model)}: error falls with the power {fit['b']:.2f} of the images"
    if fit.get("reason") or len(evidence.points_of(model)) < _MIN_SIZES:
        return Ruling(UNDECIDED, figure, fit.get("reason") or f"fewer than {_MIN_SIZES} sizes")
    low, high = claim["number"]
    inside = low - claim["tolerance"] <= fit["b"] <= high + claim["tolerance"]
    return Ruling(REPRODUCED if inside else CONTRADICTED, figure)


_MIN_SIZES = 4
_CoupleRule = Callable[[Claim, dict[str, Any], Couple], Ruling]
_ModelRule = Callable[[Claim, Evidence, str], Ruling]
_COUPLE_RULES: dict[str, _CoupleRule] = {
    "leads": _leads,
    "equals": _equals,
    "needs_fewer": _needs_fewer,
    "overtakes": _overtakes,
    "never_overtakes": _never_overtakes,
}
_MODEL_RULES: dict[str, _ModelRule] = {"accuracy": _accuracy, "exponent": _exponent}


def _oriented(
    pair: dict[str, Any], difference: dict[str, Any], couple: Couple
) -> tuple[float, float | None, float | None]:
    """Return the first model's error minus the second's, with its interval."""
    gap, interval = difference["difference"], difference["interval"]
    low, high = interval or (None, None)
    if pair["models"][0] == couple[0]:
        return gap, low, high
    return -gap, None if high is None else -high, None if low is None else -low


def _where(difference: dict[str, Any]) -> str:
    return f"at {count(difference['train_size'])} images"


def _gap_in_words(couple: Couple, gap: float, low: float | None, high: float | None) -> str:
    """Say how far the first model is ahead of the second, or behind it."""
    side, sign = ("below", -1) if gap <= 0 else ("above", 1)
    ends = "" if low is None or high is None else sorted((100 * sign * low, 100 * sign * high))
    interval = f" (95 % interval {ends[0]:.1f} to {ends[1]:.1f})" if ends else ""
    return f"the error of {the(couple[0])} is {100 * abs(gap):.1f} points{interval} {side} that of {the(couple[1])}"
