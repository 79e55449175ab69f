import dataclasses

import made_up_sweeps as sweeps
import pytest

STOPPER = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/nll"}}


def test_budgets_that_differ_are_refused():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if record["model"] == "vit" and record["train_size"] < 2000:
            amount = 2 * record["budget"]["amount"]
            record |= {"budget": {"unit": "steps", "amount": amount}, "steps": amount}
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("refuse", "budget")
    assert "at 100, 250 and 600 images" in flaw.words
    assert "Run all arms with one budget" in flaw.words


def test_steps_that_are_not_as_many_images_are_ambiguous():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if record["model"] == "cnn":
            record["examples_seen"] *= 2
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("warn", "budget_axis")
    assert (
        "equal in steps but not in images seen at every size (at 8,000 images: ViT 256,000 and CNN 512,000)"
        in flaw.words
    )
    assert "one batch size" in flaw.words


def test_early_stopping_in_one_arm_is_refused():
    plan = sweeps.with_settings(sweeps.make_plan(), "cnn", trainer={"callbacks": [STOPPER]})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check, flaw.models) == ("refuse", "early_stopping", ("cnn",))
    assert "CNN (EarlyStopping), and not ViT" in flaw.words
    assert "Stop all arms in the same way, or none" in flaw.words


def test_a_time_limit_in_one_arm_is_refused():
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", trainer={"max_time": "00:01:00:00"})
    assert "ViT (max_time)" in sweeps.only_flaw(plan, sweeps.matched_records(plan)).words


def test_early_stopping_in_all_arms_is_warned_of():
    plan = sweeps.make_plan()
    for model in plan.models:
        plan = sweeps.with_settings(plan, model, trainer={"callbacks": [STOPPER]})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("warn", "early_stopping")


def test_fewer_steps_than_the_budget_are_refused_with_the_size():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if (record["model"], record["train_size"]) == ("vit", 8000):
            record["steps"] -= 500
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.train_sizes) == ("refuse", "early_stopping", (8000,))
    assert "at 8,000 images: ViT (fewer steps than its budget)" in flaw.words


def test_failures_in_one_arm_are_warned_of():
    plan = sweeps.make_plan()
    flaw = sweeps.only_flaw(
        plan, sweeps.matched_records(plan, fails=lambda t: t.model == "cnn" and t.learning_rate == 0.01)
    )
    assert (flaw.level, flaw.check, flaw.models) == ("warn", "failed_trials", ("cnn",))
    assert "ViT 0 and CNN 20, unequal at every size" in flaw.words
    assert "--retry-failed" in flaw.words


def test_equal_failures_are_noted():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan, fails=lambda t: t.learning_rate == 0.01)
    assert "equally between the arms: ViT 20 and CNN 20" in sweeps.noted(plan, records, "failed_trials").words


@pytest.mark.parametrize("seeds", [1, 4])
def test_trials_that_have_not_run_in_one_arm_are_warned_of_with_the_size(seeds):
    plan = sweeps.make_plan()
    lost = [("cnn", 600, 0.01, seed) for seed in range(seeds)]
    records = [
        r
        for r in sweeps.matched_records(plan)
        if (r["model"], r["train_size"], r["learning_rate"], r["seed"]) not in lost
    ]
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.models, flaw.train_sizes) == ("warn", "missing_trials", ("cnn",), (600,))
    assert f"ViT 0 and CNN {seeds}, unequal at 600 images" in flaw.words


def measured_plan(unit="seconds", amount=10.0):
    """A plan whose budget was measured: a step of the ViT costs twice a step of the CNN."""
    plan = sweeps.make_plan()
    steps = {"vit": dict.fromkeys(plan.budget["amount"], 500), "cnn": dict.fromkeys(plan.budget["amount"], 1000)}
    measured = {"step": {}} | ({"machine": "node7 (cpu)"} if unit == "seconds" else {})
    amounts = dict.fromkeys(plan.budget["amount"], amount)
    return dataclasses.replace(plan, budget={"unit": unit, "amount": amounts, "steps": steps, "measured": measured})


def measured_records(plan, taken=10.0):
    return [record | {"train_seconds": taken} for record in sweeps.matched_records(plan)]


def test_equal_seconds_are_named_in_steps_and_are_no_flaw():
    plan = measured_plan()
    note = sweeps.noted(plan, measured_records(plan, 11.0), "budget")
    assert note.words == (
        "Budget on the axis of seconds: 10 seconds of training, the same for every arm, as measured on node7 (cpu) "
        "(steps at 8,000 images: 500 of ViT and 1,000 of CNN)."
    )
    axis = sweeps.noted(plan, measured_records(plan), "budget_axis")
    assert "arms of cheaper steps see more images (at 8,000 images: ViT 64,000 and CNN 128,000)" in axis.words


def test_equal_macs_are_named_and_need_no_clock():
    plan = measured_plan("macs", 3.2e13)
    words = sweeps.noted(plan, measured_records(plan, 99.0), "budget").words
    assert "axis of macs: 3.2e+13 multiply-adds of training, the same for every arm (steps at" in words


@pytest.mark.parametrize(("taken", "warned"), [(8.4, True), (8.6, False), (11.4, False), (11.6, True)])
def test_seconds_that_were_not_kept_are_warned_of(taken, warned):
    plan = measured_plan()
    records = measured_records(plan)
    for record in records:
        if (record["model"], record["train_size"]) == ("vit", 600):
            record["train_seconds"] = taken
    flaws = [finding for finding in sweeps.find(plan, records) if finding.level != "note"]
    assert [(flaw.level, flaw.check, flaw.models, flaw.train_sizes) for flaw in flaws] == (
        [("warn", "budget_seconds", ("vit",), (600,))] if warned else []
    )
    if warned:
        assert "more than 15 % longer or shorter than the budget of seconds at 600 images" in flaws[0].words
        assert f"most for ViT at 600 images: {taken:.3g} seconds of 10 (median)" in flaws[0].words


def test_steps_that_are_not_the_measured_ones_are_refused():
    plan = measured_plan()
    records = measured_records(plan)
    for record in records:
        if (record["model"], record["train_size"]) == ("cnn", 250):
            record |= {"budget": {"unit": "steps", "amount": 700}, "steps": 700}
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.train_sizes) == ("refuse", "budget", (250,))


def test_fewer_steps_than_a_measured_budget_are_early_stopping():
    plan = measured_plan("macs", 1e12)
    records = measured_records(plan)
    for record in records:
        if record["model"] == "vit":
            record["steps"] -= 1
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.models) == ("refuse", "early_stopping", ("vit",))
    assert "fewer steps than its budget" in flaw.words


def test_a_budget_in_macs_makes_up_for_images_that_cost_more():
    plan = measured_plan("macs", 1e12)
    records = [r | {"macs": 2000 if r["model"] == "vit" else 1000} for r in measured_records(plan)]
    words = sweeps.noted(plan, records, "macs").words
    assert "differ 2.0 times, and the budget in multiply-adds makes up for it: ViT 2,000 and CNN 1,000" in words
