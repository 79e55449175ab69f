import copy
import dataclasses
import itertools

import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.refinement import Limits, suggest
from vitlab.analysis.refinement_costs import added_trials
from vitlab.sweep.rate_search import grown

SECONDS = 1000.0  # a made-up seed takes 60 seconds at every size
NOISE = 0.02


class MadeUp:
    """A sweep whose trials have results as soon as they are in the plan; each keeps its result."""

    def __init__(self, plan, curves=None, noise=NOISE, seconds=10.0, fails=lambda trial: False):
        self.first, self.noise, self.seconds, self.fails = plan, noise, seconds, fails
        self.logs = {
            model: (np.log(plan.train_sizes), np.log(curve)) for model, curve in (curves or sweeps.CURVES).items()
        }
        self.known = {}

    def records(self, plan):
        for trial in plan.trials:
            if trial.id not in self.known:
                self.known[trial.id] = self._record(trial)
        return [self.known[trial.id] for trial in plan.trials]

    def _record(self, trial):
        rng = np.random.default_rng(int(trial.id, 16))
        error = np.exp(np.interp(np.log(trial.train_size), *self.logs[trial.model]))
        error += self.noise * rng.standard_normal() + (0.0 if trial.learning_rate in (0.002, 0.003) else 0.1)
        error = float(np.clip(error, 0.001, 0.999))
        failed = self.fails(trial)
        return {
            **{name: getattr(trial, name) for name in ("id", "model", "train_size", "seed", "learning_rate")},
            "status": "failed" if failed else "done",
            "val": None if failed else {"accuracy": 1 - error},
            "test": None if failed else {"accuracy": 1 - error},
            "seconds": None if failed else self.seconds,
        }


def _refined(made_up, limits):
    """Return all suggestions up to the last, which adds nothing."""
    found = [suggest(made_up.first, made_up.records(made_up.first), limits)]
    while found[-1].additions:
        assert len(found) < 60
        found.append(suggest(found[-1].plan, made_up.records(found[-1].plan), limits))
    return found


@pytest.fixture(scope="module")
def made_up():
    return MadeUp(sweeps.make_plan(num_seeds=3))


@pytest.fixture(scope="module")
def refined(made_up):
    return _refined(made_up, Limits(SECONDS))


def test_every_arm_gets_the_same_new_draws(made_up, refined):
    plans = [made_up.first, *(one.plan for one in refined)]
    for before, after in itertools.pairwise(plans):
        added = added_trials(before, after)
        by_arm = [{(t.train_size, t.seed, t.learning_rate) for t in added if t.model == arm} for arm in after.models]
        assert by_arm[0] == by_arm[1]
        old = {(trial.train_size, trial.seed) for trial in before.trials}
        assert not old & {(trial.train_size, trial.seed) for trial in added}


def test_seeds_go_where_the_crossover_is(refined):
    added = {part["train_size"]: len(part["seeds"]) for part in refined[-1].plan.refinements}
    assert added
    assert set(added) <= {250, 600, 2000, 8000} | {size for size in added if 250 < size < 8000}
    assert max(added, key=added.get) in range(600, 2001)


def test_it_ends_and_stays_within_its_limit(made_up, refined):
    added = added_trials(made_up.first, refined[-1].plan)
    assert 0 < 10 * len(added) <= SECONDS
    assert len(refined) <= 16  # in rounds of about a tenth of the limit
    again = suggest(refined[-1].plan, made_up.records(refined[-1].plan), Limits(SECONDS))
    assert not again.additions
    assert again.plan == refined[-1].plan


def test_a_larger_limit_goes_on(made_up, refined):
    last = refined[-1].plan
    assert suggest(last, made_up.records(last), Limits(10 * SECONDS)).additions


def test_a_limit_of_trials_holds(made_up):
    last = _refined(made_up, Limits(SECONDS, num_trials=14))[-1]
    assert len(added_trials(made_up.first, last.plan)) in (6, 12)
    assert not suggest(made_up.first, made_up.records(made_up.first), Limits(SECONDS, num_trials=5)).additions


def test_the_plan_keeps_what_was_added_and_why(refined):
    plan = refined[-1].plan
    for part in plan.refinements:
        assert set(part["seeds"]) <= set(plan.seeds_of(part["train_size"]))
        assert f"{part['train_size']:,}" in part["words"] or "every size" in part["words"]
        assert "on validation data" in part["words"]
    assert [part["round"] for part in plan.refinements] == sorted(part["round"] for part in plan.refinements)


def test_test_errors_steer_nothing(made_up):
    records = made_up.records(made_up.first)
    others = copy.deepcopy(records)
    for number, record in enumerate(others):
        record["test"] = None if number % 3 else {"accuracy": (number % 7) / 7}
    limits = Limits(SECONDS)
    assert suggest(made_up.first, others, limits) == suggest(made_up.first, records, limits)


def test_the_order_of_the_records_steers_nothing(made_up):
    records = made_up.records(made_up.first)
    limits = Limits(SECONDS)
    assert suggest(made_up.first, records[::-1], limits) == suggest(made_up.first, records, limits)


def test_trials_that_fail_do_not_keep_it_going_for_ever():
    plan = sweeps.make_plan(num_seeds=3)
    made_up = MadeUp(plan, fails=lambda trial: trial.seed > 2)
    last = _refined(made_up, Limits(400.0))[-1]
    assert "limit" in last.words
    assert 10 * len(added_trials(plan, last.plan)) <= 400


def test_a_narrow_interval_ends_it_at_once():
    made_up = MadeUp(sweeps.make_plan(num_seeds=8), noise=0.001)
    end = suggest(made_up.first, made_up.records(made_up.first), Limits(SECONDS))
    assert not end.additions
    assert "narrow enough" in end.words


def test_a_sure_lead_everywhere_ends_it_at_once():
    curves = {"vit": [0.5, 0.45, 0.42, 0.40, 0.39], "cnn": [0.34, 0.22, 0.16, 0.1, 0.05]}
    made_up = MadeUp(sweeps.make_plan(num_seeds=3), curves)
    end = suggest(made_up.first, made_up.records(made_up.first), Limits(SECONDS))
    assert not end.additions
    assert "CNN leads ViT for sure at every measured size" in end.words


def test_a_crossing_foretold_beyond_the_sizes_is_looked_for_within_three_times_the_largest():
    sizes = [200, 400, 800, 1600, 3200, 6400]
    vit, cnn = (np.array(sizes) ** exponent * factor for exponent, factor in ((-0.5, 8.45), (-0.2, 0.55)))
    assert (vit > cnn).all()  # they meet at 9,000
    made_up = MadeUp(sweeps.make_plan(train_sizes=sizes, num_seeds=3), {"vit": vit, "cnn": cnn}, 0.001)
    records = made_up.records(made_up.first)
    beyond = suggest(made_up.first, records, Limits(SECONDS))
    (new,) = beyond.additions
    assert 9000 < new <= 3 * 6400
    assert beyond.plan.train_sizes == [*sizes, new]
    assert "should cross before" in beyond.words
    inside = suggest(made_up.first, records, Limits(SECONDS), beyond_range=False)
    assert not set(inside.plan.train_sizes) - set(sizes)


def test_one_seed_a_size_gets_another_everywhere():
    made_up = MadeUp(sweeps.make_plan(num_seeds=1))
    first = suggest(made_up.first, made_up.records(made_up.first), Limits(SECONDS))
    assert first.additions == dict.fromkeys(sweeps.SIZES, 1)
    assert first.words.startswith("1 more seed at every size: with one seed a size there is no interval")


def test_three_arms_grow_alike():
    curves = sweeps.CURVES | {"rnn": [0.45, 0.40, 0.36, 0.33, 0.30]}
    made_up = MadeUp(sweeps.make_plan(models=["vit", "cnn", "rnn"], num_seeds=3), curves)
    first = suggest(made_up.first, made_up.records(made_up.first), Limits(SECONDS))
    added = added_trials(made_up.first, first.plan)
    assert len({sum(trial.model == arm for trial in added) for arm in made_up.first.models}) == 1


def test_what_has_no_crossover_is_refused():
    with pytest.raises(ValueError, match="has one model"):
        suggest(sweeps.make_plan(models=["vit"]), [], Limits())
    dial = {"label": "window", "arms": {"vit": [None, 3], "cnn": [None, 5]}}
    with pytest.raises(ValueError, match="turns a dial"):
        suggest(sweeps.make_plan(dial=dial), [], Limits())


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"seconds": -60}, {"seconds": np.nan}, {"num_trials": 0}])
def test_limits_are_above_zero(wrong):
    with pytest.raises(ValueError, match="--refine-"):
        Limits(**wrong)


def test_records_of_other_sweeps_and_unfinished_ones_are_no_ground_to_stand_on(made_up):
    assert "no two arms share" in suggest(made_up.first, [], Limits()).words
    only_one = [record for record in made_up.records(made_up.first) if record["model"] == "vit"]
    assert "no two arms share" in suggest(made_up.first, only_one, Limits()).words


def test_a_plan_with_refinements_is_another_plans_growth(refined, made_up):
    plan = refined[-1].plan
    assert made_up.first.with_growth_of(plan) == plan
    assert plan.without_growth() == made_up.first
    assert dataclasses.replace(plan, refinements=None).with_growth_of(plan) == plan


def test_where_rates_are_searched_for_the_search_gets_the_new_seeds(made_up):
    first = dataclasses.replace(made_up.first, learning_rates={model: [] for model in made_up.first.models})
    searched = MadeUp(first)
    plan, before = first, None
    while plan != before:
        before, plan = plan, _searched(plan, searched)
    suggestion = suggest(plan, searched.records(plan), Limits(SECONDS))
    ((size, number),) = suggestion.additions.items()
    assert suggestion.num_trials == 2 * 3 * number  # both arms, at the three rates that have all seeds
    assert suggestion.seconds == pytest.approx(10 * suggestion.num_trials)
    then = _searched(suggestion.plan, searched)
    added = [trial for trial in then.trials if trial.id not in {known.id for known in plan.trials}]
    assert {trial.train_size for trial in added} == {size}
    assert {trial.seed for trial in added} == set(suggestion.plan.refinements[0]["seeds"])
    assert len(added) == suggestion.num_trials


def _searched(plan, made_up):
    return grown(plan, {record["id"]: record for record in made_up.records(plan)})
