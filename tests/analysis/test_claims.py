import argparse
import dataclasses
import json
from pathlib import Path

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.claim_rules import compares_models
from vitlab.analysis.claims import VERDICTS, check_claims, claims_in_words, published_claims, write_claims
from vitlab.analysis.summary import summarize
from vitlab.analysis.task_result import analyze_task
from vitlab.commands.reports import add_claims

RESULTS = Path(__file__).parents[2] / "results"


def _write(folder, plan, curves, params=None, noise=0.002):
    records = sweeps.matched_records(plan, curves=curves, noise=noise)
    params = params or {}
    records = [record | {"params": params.get(record["model"], 60_000)} for record in records]
    return sweeps.write_sweep(folder, plan, records)


def _networks(plan, dataset, **backbones):
    """Return the plan with a data set and a network for each arm."""
    models = {name: {"model": {"backbone": backbone}} for name, backbone in backbones.items()}
    settings = {"data": {"dataset": {"class_path": f"vitlab.data.{dataset}"}}}
    return dataclasses.replace(plan, model_settings=models, settings=settings)


def _vit(**arguments):
    return {"class_path": "vitlab.models.ViT", "init_args": {"patch_size": 4, **arguments}}


RESNET = {"class_path": "vitlab.models.ResNet", "init_args": {}}


def _vit_and_cnn(tmp_path, curves, sizes=(100, 600, 8000), task="flowers", params=None):
    folder = tmp_path / task
    folder.mkdir()
    plan = _networks(sweeps.make_plan(train_sizes=sizes, task=task), "Images", vit=_vit(), cnn=RESNET)
    return _write(folder, plan, curves, params)


def _vits(tmp_path, curves, params=None, sizes=(100, 600, 8000), **backbones):
    folder = tmp_path / "vits"
    folder.mkdir()
    plan = _networks(sweeps.make_plan(list(backbones), train_sizes=sizes), "Images", **backbones)
    return _write(folder, plan, curves, params)


def _verdict(path, claim):
    (outcome,) = [outcome for outcome in check_claims([path]) if outcome.claim == claim]
    return outcome


@pytest.mark.parametrize(
    ("curves", "verdict"),
    [
        ({"vit": [0.4, 0.3, 0.2], "cnn": [0.3, 0.2, 0.1]}, "reproduced"),
        ({"vit": [0.3, 0.2, 0.1], "cnn": [0.4, 0.3, 0.2]}, "contradicted"),
        ({"vit": [0.3, 0.2, 0.1], "cnn": [0.3, 0.3, 0.3]}, "undecided"),
    ],
)
def test_who_leads_with_few_images_is_decided_beyond_the_noise(tmp_path, curves, verdict):
    outcome = _verdict(_vit_and_cnn(tmp_path, curves), "cnn-leads-with-few-images")
    assert outcome.verdict == verdict
    assert outcome.figure.startswith("at 100 images the error of the CNN is ")
    assert "95 % interval" in outcome.figure
    assert (outcome.task, outcome.models) == ("flowers", ("cnn", "vit"))


@pytest.mark.parametrize(
    ("curves", "verdict"),
    [
        ({"vit": [0.4, 0.2, 0.1], "cnn": [0.3, 0.12, 0.06]}, "reproduced"),
        ({"cnn": [0.4, 0.2, 0.1], "vit": [0.3, 0.12, 0.06]}, "contradicted"),
    ],
)
def test_who_needs_more_images_is_decided_by_the_ratios_interval(tmp_path, curves, verdict):
    outcome = _verdict(_vit_and_cnn(tmp_path, curves), "vit-needs-more-images")
    assert outcome.verdict == verdict
    assert outcome.figure.startswith("the ViT needs ")


CROSSING = {"vit": [0.4, 0.25, 0.05], "cnn": [0.3, 0.2, 0.15]}
BEHIND = {"vit": [0.4, 0.3, 0.2], "cnn": [0.3, 0.2, 0.1]}


def test_a_change_of_lead_reproduces_that_the_vit_overtakes(tmp_path):
    outcome = _verdict(_vit_and_cnn(tmp_path, CROSSING), "vit-overtakes-with-more-images")
    assert outcome.verdict == "reproduced"
    assert "the lead changes to the ViT at" in outcome.figure


def test_a_change_of_lead_to_the_cnn_contradicts_it(tmp_path):
    curves = {"vit": CROSSING["cnn"], "cnn": CROSSING["vit"]}
    assert _verdict(_vit_and_cnn(tmp_path, curves), "vit-overtakes-with-more-images").verdict == "contradicted"


@pytest.mark.parametrize(
    ("sizes", "verdict", "reason"),
    [
        (
            (100, 600, 8000),
            "out of scale",
            "the sweep ends at 8,000 images, the statement's change lies below 90,000,000",
        ),
        ((100, 600, 100_000_000), "contradicted", ""),
    ],
)
def test_a_sweep_that_ends_too_early_cannot_contradict_that_the_vit_overtakes(tmp_path, sizes, verdict, reason):
    outcome = _verdict(_vit_and_cnn(tmp_path, BEHIND, sizes), "vit-overtakes-with-more-images")
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("curves", "sizes", "verdict"),
    [
        (BEHIND, (500, 5000, 45000), "reproduced"),
        (BEHIND, (500, 5000, 20000), "out of scale"),
        (CROSSING, (500, 5000, 20000), "contradicted"),
    ],
)
def test_no_crossover_on_cifar_10_is_decided_at_45_000_images(tmp_path, curves, sizes, verdict):
    folder = _vit_and_cnn(tmp_path, curves, sizes, task="cifar10")
    assert _verdict(folder, "no-crossover-on-cifar-10").verdict == verdict


def test_statements_on_another_data_set_are_out_of_scale(tmp_path):
    outcome = _verdict(_vit_and_cnn(tmp_path, BEHIND, task="cifar100"), "no-crossover-on-cifar-10")
    assert (outcome.verdict, outcome.task, outcome.reason) == ("out of scale", "", "no results on CIFAR-10")


@pytest.mark.parametrize(
    ("error", "size", "params", "verdict"),
    [
        (0.06, 45000, 11_200_000, "reproduced"),
        (0.12, 45000, 11_200_000, "contradicted"),
        (0.06, 45000, 200_000, "out of scale"),
        (0.06, 8000, 11_200_000, "out of scale"),
    ],
)
def test_an_accuracy_is_compared_at_its_data_and_model_size(tmp_path, error, size, params, verdict):
    curves = {"vit": [0.5, 0.4, 0.3], "cnn": [0.4, 0.2, error]}
    folder = _vit_and_cnn(tmp_path, curves, (500, 5000, size), "cifar10", {"cnn": params})
    outcome = _verdict(folder, "resnet18-on-cifar-10")
    assert outcome.verdict == verdict
    assert f"{100 * (1 - error):.0f}" in outcome.figure
    assert f"{params:,} parameters" in outcome.figure


POSITIONS = {
    "learned": _vit(position="vitlab.attention.LearnedPosition"),
    "grid": _vit(position="vitlab.attention.SinCos2D"),
}
NO_POSITION = _vit(position="vitlab.attention.NoPosition")


@pytest.mark.parametrize(("gap", "verdict"), [(0.1, "reproduced"), (-0.1, "contradicted")])
def test_positions_are_compared_where_arms_differ_in_them_alone(tmp_path, gap, verdict):
    curves = {"learned": [0.4, 0.3, 0.2], "none": [0.4 + gap, 0.3 + gap, 0.2 + gap]}
    folder = _vits(tmp_path, curves, learned=POSITIONS["learned"], none=NO_POSITION)
    assert _verdict(folder, "positions-help").verdict == verdict


def test_positions_are_not_compared_where_arms_differ_in_more(tmp_path):
    curves = {"learned": [0.4, 0.3, 0.2], "none": [0.5, 0.4, 0.3]}
    other = _vit(position="vitlab.attention.NoPosition", patch_size=8)
    outcome = _verdict(_vits(tmp_path, curves, learned=POSITIONS["learned"], none=other), "positions-help")
    assert outcome.verdict == "out of scale"
    assert "no two models that were compared differ as the statement has it" in outcome.reason


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, "reproduced"), (0.1, "contradicted"), (0.01, "undecided")])
def test_kinds_of_positions_are_equal_within_the_tolerance(tmp_path, gap, verdict):
    curves = {"learned": [0.4, 0.3, 0.2], "grid": [0.4, 0.3, 0.2 + gap]}
    assert _verdict(_vits(tmp_path, curves, **POSITIONS), "kind-of-position-does-not-matter").verdict == verdict


def test_smaller_patches_that_lead_reproduce_it(tmp_path):
    curves = {"coarse": [0.5, 0.4, 0.3], "fine": [0.4, 0.3, 0.2]}
    outcome = _verdict(_vits(tmp_path, curves, coarse=_vit(patch_size=8), fine=_vit()), "smaller-patches-are-better")
    assert (outcome.verdict, outcome.models) == ("reproduced", ("fine", "coarse"))


def test_a_larger_vit_that_overtakes_a_smaller_one_reproduces_it(tmp_path):
    curves = {"large": [0.4, 0.25, 0.05], "small": [0.3, 0.2, 0.15]}
    params = {"large": 120_000, "small": 60_000}
    folder = _vits(tmp_path, curves, params, large=_vit(size="small"), small=_vit(size="tiny"))
    outcome = _verdict(folder, "larger-vits-need-more-images")
    assert (outcome.verdict, outcome.models) == ("reproduced", ("large", "small"))


def test_augmentation_is_held_against_ten_times_the_data(tmp_path):
    sizes = (100, 1000, 10_000, 100_000)
    curves = {"plain": [0.8, 0.4, 0.2, 0.1], "strong": [0.4, 0.2, 0.1, 0.05]}
    plan = _networks(sweeps.make_plan(list(curves), train_sizes=sizes), "Images", plain=_vit(), strong=_vit())
    plan = sweeps.with_settings(plan, "strong", model={"mixup_alpha": 0.8})
    (tmp_path / "sweep").mkdir()
    outcome = _verdict(_write(tmp_path / "sweep", plan, curves), "augmentation-is-worth-ten-times-the-data")
    assert (outcome.verdict, outcome.models) == ("reproduced", ("strong", "plain"))


def test_a_summary_says_what_its_sweep_says_but_for_the_settings(tmp_path):
    folder = _vit_and_cnn(tmp_path, CROSSING)
    plan = _networks(sweeps.make_plan(train_sizes=(100, 600, 8000), task="flowers"), "Images", vit=_vit(), cnn=RESNET)
    records = [json.loads(file.read_text()) for file in sorted((folder / "trials").glob("*.json"))]
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps(summarize([analyze_task(plan, records)])))
    of_sweep, of_summary = check_claims([folder]), check_claims([summary])
    assert [(o.claim, o.verdict, o.figure) for o in of_sweep] == [(o.claim, o.verdict, o.figure) for o in of_summary]
    reason = next(outcome.reason for outcome in of_summary if outcome.claim == "positions-help")
    assert "a summary does not tell in which settings models differ" in reason


def test_the_projects_own_results_reproduce_its_statements_and_contradict_none():
    outcomes = check_claims([RESULTS / "demo", RESULTS / "cifar10_jpeg_cpu" / "summary.json"])
    verdicts = {(outcome.claim, outcome.task): outcome.verdict for outcome in outcomes}
    assert verdicts["vit-overtakes-on-a-relation", "glyphs-both"] == "reproduced"
    assert verdicts["cnn-needs-fewer-images-for-glyphs", "glyphs-local"] == "reproduced"
    assert verdicts["cnn-leads-with-few-images", "cifar10-folder"] == "reproduced"
    assert verdicts["no-crossover-on-cifar-10", "cifar10-folder"] == "out of scale"
    assert "contradicted" not in verdicts.values()


def test_every_statement_is_told_with_its_source_and_gets_a_verdict():
    claims, outcomes = published_claims(), check_claims([RESULTS / "demo"])
    assert [claim["id"] for claim in claims] == list(dict.fromkeys(outcome.claim for outcome in outcomes))
    for claim in claims:
        assert {"source", "checked", "statement", "caveat", "rule"} <= set(claim), claim["id"]
        assert compares_models(claim) == ("compares" in claim)
    assert all(outcome.verdict in VERDICTS for outcome in outcomes)
    assert all(outcome.figure or outcome.reason for outcome in outcomes)


def test_a_statement_is_written_once_with_all_that_is_said_of_it():
    lines = claims_in_words(check_claims([RESULTS / "demo"]))
    assert sum("ResNets are better" in line for line in lines) == 1
    assert sum(line.startswith("  - digits: at 20 images") for line in lines) == 1
    assert "contradicted" in lines[0]


@pytest.mark.parametrize("ending", ["json", "md"])
def test_the_command_prints_and_writes_the_outcomes(tmp_path, capsys, ending):
    parser = argparse.ArgumentParser()
    add_claims(parser.add_subparsers())
    file = tmp_path / "new" / f"claims.{ending}"
    options = parser.parse_args(["claims", str(RESULTS / "demo"), "--out", str(file)])
    assert options.function(options) == 0
    assert "## Reproduced" in capsys.readouterr().out
    written = file.read_text()
    if ending == "json":
        assert [one["claim"] for one in json.loads(written)] == [o.claim for o in check_claims([RESULTS / "demo"])]
    else:
        assert "## Reproduced" in written


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.json or \.md"):
        write_claims([], tmp_path / "claims.txt")


@pytest.mark.parametrize("content", [None, "not JSON", "[]", "{}"])
def test_what_is_no_result_is_refused_in_words(tmp_path, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=r"neither a sweep folder nor a report with a summary\.json"):
        check_claims([tmp_path])
