"""Did the arms run with the same software, on the same kind of machine?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vitlab.analysis.finding import Finding
from vitlab.analysis.selection import Record
from vitlab.analysis.wording import label, listing

Read = Callable[[Record], Any]


def check_environment(plan: Any, selected: Sequence[Record], who: str = "arm") -> list[Finding]:
    """Return the findings on versions, commits, devices and threads that are mixed, and unequally between the arms.

    Args:
        plan: the sweep's plan; its models are what is compared.
        selected: the tested trials at the chosen learning rates.
        who: how to call what is compared: "arm", or "sweep" where each "model" is a sweep.
    """
    packages = sorted({name for trial in selected for name in trial.get("versions") or {}})
    findings = []
    for package in packages:
        read = _version_of(package)
        findings.append(_mixed(plan, selected, who, "mixed_versions", f"versions of {package}", read, _RERUN))
    facts: tuple[tuple[str, str, Read, str], ...] = (
        ("mixed_commits", "commits of vitlab", lambda trial: trial.get("commit"), _RERUN),
        ("mixed_devices", "devices", lambda trial: trial.get("device"), "Seconds cannot be compared. " + _RERUN),
        ("mixed_threads", "numbers of CPU threads", lambda trial: trial.get("num_threads"), _THREADS),
    )
    findings += [_mixed(plan, selected, who, *fact) for fact in facts]
    return [finding for finding in findings if finding]


_RERUN = "Run all {who}s in one environment, or see that a trial repeated in the other gives the same result."
_THREADS = "Seconds cannot be compared, and sums may round differently. Run all {who}s with one --threads."


def _version_of(package: str) -> Read:
    return lambda trial: (trial.get("versions") or {}).get(package)


def _mixed(
    plan: Any, selected: Sequence[Record], who: str, check: str, noun: str, read: Read, advice: str
) -> Finding | None:
    found = {model: {str(read(t) or "unknown") for t in selected if t["model"] == model} for model in plan.models}
    found = {model: values for model, values in found.items() if values}
    everywhere = set().union(*found.values())
    if len(everywhere) < 2:
        return None
    if all(values == everywhere for values in found.values()):
        words = f"Mixed {noun}, in every {who} alike: {listing(sorted(everywhere))}."
        return Finding("note", check, words, tuple(found))
    arms = listing([f"{label(model)} with {listing(sorted(values))}" for model, values in found.items()])
    words = f"The {who}s ran with different {noun}: {arms}. {advice.format(who=who)}"
    return Finding("warn", check, words, tuple(found))
