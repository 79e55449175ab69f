"""Published statements against a sweep's results: reproduced, contradicted, undecided or out of scale.

The statements are data (published_claims.json): each with its source, how that was checked, the rule that decides on
it, and what differs between the published setting and any other. Most of them are out of scale for a small sweep, and
that is said with the reason.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitlab.analysis.claim_evidence import Evidence, gather_evidence
from vitlab.analysis.claim_rules import (
    CONTRADICTED,
    OUT_OF_SCALE,
    REPRODUCED,
    UNDECIDED,
    Ruling,
    compares_models,
    rule_on_couple,
    rule_on_model,
)
from vitlab.analysis.wording import listing, plural, sentence
from vitlab.atomic_file import atomic_file

VERDICTS = (REPRODUCED, CONTRADICTED, UNDECIDED, OUT_OF_SCALE)
_FILE = Path(__file__).with_name("published_claims.json")


@dataclass(frozen=True)
class Outcome:
    """What the results say of one statement.

    Args:
        claim: the statement's id.
        source: where it is published.
        checked: how it was checked that this is what is published.
        statement: the statement.
        caveat: what differs between the published setting and any sweep.
        task: the task that speaks of it; empty where none does.
        models: the arms that do.
        verdict: one of VERDICTS.
        figure: what was measured, in words; empty where nothing was.
        reason: why it is undecided or out of scale.
    """

    claim: str
    source: str
    checked: str
    statement: str
    caveat: str
    task: str
    models: tuple[str, ...]
    verdict: str
    figure: str
    reason: str


def published_claims() -> list[dict[str, Any]]:
    """Return the bundled statements."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def check_claims(paths: Iterable[Path]) -> list[Outcome]:
    """Return what the results say of each published statement, in the statements' order.

    Args:
        paths: sweep folders, or reports: a summary.json or a folder that holds one.

    Raises:
        ValueError: a path is neither, or a sweep has no finished trial.
    """
    evidence = gather_evidence(paths)
    return [outcome for claim in published_claims() for outcome in _outcomes(claim, evidence)]


def claims_in_words(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the outcomes as lines of Markdown: how many of each verdict, then each verdict's statements.

    Args:
        outcomes: what `check_claims` gave.
    """
    groups = {verdict: [one for one in outcomes if one.verdict == verdict] for verdict in VERDICTS}
    lines = [sentence(listing([f"{plural(len(group), 'outcome')} {verdict}" for verdict, group in groups.items()]))]
    for verdict, group in groups.items():
        lines += ["", f"## {verdict.capitalize()}"] if group else []
        for _, same in itertools.groupby(group, key=lambda one: one.claim):
            lines += _statement_in_words(list(same))
    return lines


def write_claims(outcomes: Sequence[Outcome], file: Path) -> None:
    """Write the outcomes, whole or not at all.

    Args:
        outcomes: what `check_claims` gave.
        file: ends in .json, or in .md for Markdown.

    Raises:
        ValueError: it ends in something else.
    """
    if file.suffix == ".json":
        content = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    elif file.suffix == ".md":
        content = "\n".join(["# Published statements against these results\n", *claims_in_words(outcomes)])
    else:
        raise ValueError(f"--out {file} must end in .json or .md")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as stream:
        stream.write(content + "\n")


def _statement_in_words(outcomes: Sequence[Outcome]) -> list[str]:
    """Return one statement and what each task says of it."""
    first = outcomes[0]
    lines = ["", f"- {sentence(first.statement)} [{first.source}; {first.checked}]"]
    for one in outcomes:
        said = "; ".join(text for text in (one.figure, one.reason) if text)
        lines.append(f"  - {one.task}: {said}." if one.task else f"  - {sentence(said)}")
    return [*lines, f"  - Scale: {first.caveat}."]


def _outcomes(claim: Mapping[str, Any], evidence: Sequence[Evidence]) -> list[Outcome]:
    """Return a ruling for each task and each pair or model that a statement is about; one that says why, if none is."""
    datasets = claim.get("datasets")
    fitting = [one for one in evidence if datasets is None or any(one.is_on(name) for name in datasets)]
    rulings = [(one.task, models, ruling) for one in fitting for models, ruling in _rulings(claim, one)]
    if not rulings:
        rulings = [("", (), Ruling(OUT_OF_SCALE, "", _why_not(claim, fitting)))]
    told = {name: claim[name] for name in ("source", "checked", "statement", "caveat")}
    return [
        Outcome(claim=claim["id"], **told, task=task, models=models, **asdict(ruling))
        for task, models, ruling in rulings
    ]


def _rulings(claim: Mapping[str, Any], evidence: Evidence) -> list[tuple[tuple[str, ...], Ruling]]:
    if compares_models(claim):
        couples = evidence.couples(claim["compares"])
        return [(couple, rule_on_couple(claim, evidence, couple)) for couple in couples]
    family = claim.get("family")
    models = [m for m, arm in evidence.arms.items() if evidence.points_of(m) and family in (None, arm.family)]
    models = [model for model in models if not evidence.arms[model].is_pretrained]
    return [((model,), rule_on_model(claim, evidence, model)) for model in models]


def _why_not(claim: Mapping[str, Any], fitting: Sequence[Evidence]) -> str:
    if not fitting:
        return f"no results on {listing(claim['datasets'])}"
    if not compares_models(claim):
        return f"no {claim['family']} among the models"
    sides = " and ".join(claim["compares"])
    if claim["compares"][0] not in ("cnn", "vit") and all(one.contrasts is None for one in fitting):
        return f"a summary does not tell in which settings models differ ({sides}); give the sweep's folder"
    return f"no two models that were compared differ as the statement has it ({sides})"
