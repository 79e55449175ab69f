import dataclasses

import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.fairness_tuning import check_tuning
from vitlab.sweep.rate_search import grown
from vitlab.sweep.selection import chosen_learning_rates


def test_unequal_tuning_is_refused():
    plan = sweeps.make_plan(learning_rates={"vit": [0.001, 0.003, 0.01, 0.03], "cnn": [0.001, 0.003, 0.01]})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("refuse", "tuning_trials")
    assert "the ViT 4 learning rates and the CNN 3 learning rates" in flaw.words
    assert "give CNN as many as the others (4)" in flaw.words


@pytest.mark.parametrize(
    ("best", "rates", "words"),
    [
        (
            0.001,
            [0.001, 0.003, 0.01],
            "the lowest of its grid (0.001) at every size, so a better one may lie below it; add 0.0003",
        ),
        (
            0.01,
            [0.001, 0.003, 0.01],
            "the highest of its grid (0.01) at every size, so a better one may lie above it; add 0.03",
        ),
        (0.03, [0.003, 0.01, 0.03], "add 0.1 to its grid and one rate to each other arm's"),
        (0.004, [0.001, 0.002, 0.004], "add 0.008 "),
    ],
)
def test_a_best_rate_on_the_edge_of_its_grid_is_warned_of_with_the_rate_to_add(best, rates, words):
    plan = sweeps.make_plan(learning_rates={"vit": rates, "cnn": [best / 3, best, 3 * best]})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan, best_rate=best))
    assert (flaw.level, flaw.check, flaw.models) == ("warn", "learning_rate_edge", ("vit",))
    assert words in flaw.words


def test_a_race_with_a_longer_list_needs_a_new_folder():
    rates = {"vit": [0.001, 0.003, 0.01], "cnn": [0.003, 0.01, 0.03]}
    plan = dataclasses.replace(sweeps.make_plan(learning_rates=rates), race=rates)
    words = [finding.words for finding in check_tuning(plan, [], {("vit", size): 0.01 for size in plan.train_sizes})]
    assert any(
        said.endswith("add 0.03 to its grid and one rate to each other arm's, in a new folder.") for said in words
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_rate_of_a_race_that_nothing_disturbed_is_ahead_of_the_winner(seed):
    plan, records = _race(seed)
    assert [finding for finding in _race_findings(plan, records) if finding.check == "learning_rate_race"] == []


def test_a_rate_that_failed_in_its_race_and_is_better_when_retried_is_told():
    plan, records = _race(0, failed=("cnn", 600, 0.003))
    retried = next(record for record in records if record["status"] == "failed")
    retried |= {"status": "done", "val": {"accuracy": 1.0}}
    (finding,) = [finding for finding in _race_findings(plan, records) if finding.check == "learning_rate_race"]
    assert (finding.level, finding.models, finding.train_sizes) == ("warn", ("cnn",), (600,))
    assert "CNN at 600 images (0.003)" in finding.words


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_failed_later_in_its_race_or_is_still_racing_is_no_matter(seed):
    plan, records = _race(seed)
    chosen = chosen_learning_rates(records, plan)
    losers = [one for one in records if one["learning_rate"] != chosen[one["model"], one["train_size"]]]
    second = [one for one in losers if one["seed"] == 1]
    for record in records:  # whoever came second led at the first seed
        if any(_same_arm(record, one) and record["seed"] == 0 for one in second):
            record["val"] = {"accuracy": 0.99}
    failed = [one | {"status": "failed", "val": None} if one in second else one for one in records]
    racing = [one for one in records if one not in second]
    for left in (failed, racing):
        assert not [one for one in check_tuning(plan, left, chosen) if one.check == "learning_rate_race"]
    assert [one for one in check_tuning(plan, records, chosen) if one.check == "learning_rate_race"]


def _same_arm(one, other):
    return all(one[name] == other[name] for name in ("model", "train_size", "learning_rate"))


def _race_findings(plan, records):
    return check_tuning(plan, records, chosen_learning_rates(records, plan))


def _race(seed, failed=None):
    """Return a race of three rates at three seeds, in which a rate of an arm may fail at its first seed."""
    rates = {"vit": [0.001, 0.003, 0.01], "cnn": [0.001, 0.003, 0.01]}
    plan = sweeps.make_plan(num_seeds=3, learning_rates={"vit": [], "cnn": []})
    plan, records = dataclasses.replace(plan, race=rates), {}
    rng = np.random.default_rng(seed)
    while (more := grown(plan, records)) is not plan:
        plan = more
        for trial in plan.trials:
            if trial.id not in records:
                fails = (trial.model, trial.train_size, trial.learning_rate) == failed
                records[trial.id] = {
                    **{name: getattr(trial, name) for name in ("id", "model", "train_size", "seed", "learning_rate")},
                    "status": "failed" if fails else "done",
                    "val": None if fails else {"accuracy": rng.uniform(0.4, 0.6)},
                    "test": None,
                }
    return plan, list(records.values())


def test_an_edge_at_one_size_is_warned_of_with_that_size():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if (record["model"], record["train_size"]) == ("cnn", 600):
            better = record["learning_rate"] == 0.01
            record["val"] = record["val"] | {"accuracy": 0.99 if better else 0.5}
            record["test"] = record["val"] | {"nll": 0.1} if better else None
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.train_sizes) == ("warn", "learning_rate_edge", (600,))
    assert "CNN: the chosen learning rate is the highest of its grid (0.01) at 600 images" in flaw.words


def test_a_single_rate_is_called_untuned():
    plan = sweeps.make_plan(learning_rates={"vit": [0.003], "cnn": [0.003]})
    flaws = [finding for finding in sweeps.find(plan, sweeps.matched_records(plan)) if finding.level != "note"]
    assert [(flaw.level, flaw.check, flaw.models) for flaw in flaws] == [
        ("warn", "learning_rate_edge", ("vit",)),
        ("warn", "learning_rate_edge", ("cnn",)),
    ]
    assert "not tuned; try three or more" in flaws[0].words


@pytest.mark.parametrize("callback", ["ModelCheckpoint", "StochasticWeightAveraging"])
def test_a_callback_that_chooses_by_test_data_is_refused(callback):
    chooser = {"class_path": f"lightning.pytorch.callbacks.{callback}", "init_args": {"monitor": "test/accuracy"}}
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", trainer={"callbacks": [chooser]})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("refuse", "test_used")
    assert "ViT by test/accuracy" in flaw.words
    assert "monitor val/accuracy" in flaw.words


def test_a_callback_that_looks_at_validation_data_is_no_flaw():
    keeper = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": "val/accuracy"}}
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", trainer={"callbacks": [keeper]})
    assert "callbacks" in sweeps.noted(plan, sweeps.matched_records(plan), "different_trainer").words


def test_rates_that_validation_data_do_not_choose_are_refused():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:  # by test data, another rate of the ViT is better at 100 images
        if (record["model"], record["train_size"]) == ("vit", 100):
            good = record["learning_rate"] == 0.003
            record["val"] = record["val"] | {"accuracy": 0.5 if good else 0.51}
    chosen = {(model, size): 0.003 for model in plan.models for size in plan.train_sizes}
    flaw = sweeps.only_flaw(plan, records, chosen)
    assert (flaw.level, flaw.check, flaw.models, flaw.train_sizes) == ("refuse", "test_used", ("vit",), (100,))
    assert "choose each by its mean validation accuracy alone" in flaw.words


def test_test_images_that_are_also_the_validation_images_are_refused():
    plan = sweeps.make_plan()
    records = [record | {"val": record["test"] or record["val"]} for record in sweeps.matched_records(plan)]
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("refuse", "test_used")
    assert "data.val_size" in flaw.words


def test_test_metrics_of_all_trials_are_refused():
    plan = sweeps.make_plan()
    records = [record | {"test": record["val"] | {"nll": 1.0}} for record in sweeps.matched_records(plan)]
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("refuse", "test_used")
    assert "80 of 80 trials that were not chosen have test metrics: ViT and CNN at every size" in flaw.words


def test_tests_left_from_an_earlier_choice_are_warned_of():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if (record["model"], record["train_size"], record["learning_rate"]) == ("vit", 250, 0.01):
            record["test"] = record["val"] | {"nll": 1.0}
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.models, flaw.train_sizes) == ("warn", "test_used", ("vit",), (250,))
    assert "4 of 80 trials" in flaw.words
    assert "do not choose by them" in flaw.words


def test_a_search_that_ended_is_noted_as_equal_tuning():
    plan, records = sweeps.make_search()
    note = sweeps.noted(plan, records, "tuning_trials")
    assert note.words == ("Every arm: a search of 14 trials per size for its learning rate, as many as any other arm.")
    grown = plan.with_seeds(100, [7])
    assert "a search of 14 to 17 trials per size" in sweeps.find(grown, [])[0].words


def test_a_search_that_has_only_begun_is_not_called_unfair():
    plan, records = sweeps.make_search()
    begun = plan.without_growth().with_rates("vit", 100, [0.005], [0])
    assert {finding.level for finding in sweeps.find(begun, records[:0])} == {"note"}


@pytest.mark.parametrize(("best", "name", "side"), [(1e-7, "lowest", "below"), (100.0, "highest", "above")])
def test_a_search_that_ended_on_its_edge_is_warned_of(best, name, side):
    plan, records = sweeps.make_search(best)
    edges = [finding for finding in sweeps.find(plan, records) if finding.check == "learning_rate_edge"]
    assert [(edge.level, edge.models) for edge in edges] == [("warn", ("vit",)), ("warn", ("cnn",))]
    assert all(f"is the {name} that its search tried" in edge.words for edge in edges)
    assert all(f"a better one may lie {side} it" in edge.words for edge in edges)


def test_a_search_with_more_trials_for_one_arm_is_refused():
    plan, records = sweeps.make_search()
    more = plan.with_rates("vit", 250, [3.0], [0])
    flaw = next(finding for finding in sweeps.find(more, records) if finding.check == "tuning_trials")
    assert (flaw.level, flaw.train_sizes) == ("refuse", (250,))
    assert "the ViT 15 trials and the CNN 14 trials at 250 images" in flaw.words


def test_a_rate_with_fewer_seeds_is_not_chosen_however_lucky():
    plan, records = sweeps.make_search()
    for record in records:
        arm = (record["model"], record["train_size"])
        if len(plan.added_rates(*arm)[record["learning_rate"]]) < 3:
            record["val"] = record["val"] | {"accuracy": 0.999}
    assert {finding.level for finding in sweeps.find(plan, records)} == {"note"}
    assert {record["learning_rate"] for record in records if record["test"]} == {0.005}
