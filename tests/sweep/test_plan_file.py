"""A folder's plan comes back as it was written, only grows, and is defended against other sweeps."""

import dataclasses
import json
import multiprocessing

import pytest

from vitlab.sweep.plan_file import check_folder, load_plan, write_plan

NUM_RACES = 20


def test_a_written_plan_comes_back_equal(plan, tmp_path):
    write_plan(tmp_path, plan)
    assert load_plan(tmp_path) == plan


def test_a_dial_comes_back_and_may_be_added_to_a_sweep_that_ran_without(plan, tmp_path):
    write_plan(tmp_path, plan)
    assert "dial" not in json.loads((tmp_path / "sweep.json").read_text())
    turned = dataclasses.replace(plan, dial={"label": "width", "arms": {"vit": [None, 12], "cnn": [None, 8.5]}})
    check_folder(tmp_path, turned)
    write_plan(tmp_path, turned)
    assert load_plan(tmp_path) == turned


def test_a_plan_that_only_adds_is_welcome_in_the_folder(plan, tmp_path):
    write_plan(tmp_path, plan)
    check_folder(tmp_path, dataclasses.replace(plan, seeds=[0, 1, 2]))


def test_a_folder_of_another_sweep_is_refused_and_left_alone(plan, tmp_path):
    write_plan(tmp_path, plan)
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds the sweep 'digits-tiny' with other settings.*Nothing was changed"):
        check_folder(tmp_path, dataclasses.replace(plan, seeds=[1]))
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(plan, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="not empty and holds no sweep"):
        check_folder(tmp_path, plan)


def test_a_folder_with_a_half_written_plan_of_a_killed_launcher_is_free(plan, tmp_path):
    (tmp_path / ".writing-sweep").write_text("{")
    (tmp_path / ".lock").touch()
    for part in ("owners", "jobs", "logs"):
        (tmp_path / part).mkdir()
    check_folder(tmp_path, plan)


def write_in_a_race(barrier, refused, folder, plan):
    for race in range(NUM_RACES):
        check_folder(folder / str(race), plan)
        barrier.wait()
        try:
            write_plan(folder / str(race), plan)
        except ValueError:
            refused.put((race, plan.seeds))
        barrier.wait()


def test_of_two_sweeps_that_start_in_an_empty_folder_at_once_one_gets_it(plan, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, refused = context.Barrier(2), context.SimpleQueue()
    plans = [dataclasses.replace(plan, seeds=[seed]) for seed in (0, 1)]
    writers = [context.Process(target=write_in_a_race, args=(barrier, refused, tmp_path, one)) for one in plans]
    for process in writers:
        process.start()
    losers = dict(refused.get() for _ in range(NUM_RACES))
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert refused.empty()
    assert [load_plan(tmp_path / str(race)).seeds for race in range(NUM_RACES)] == [
        [1] if losers[race] == [0] else [0] for race in range(NUM_RACES)
    ]


def test_of_two_launchers_of_one_sweep_the_second_is_welcome_and_may_add(plan, tmp_path):
    write_plan(tmp_path, plan)
    write_plan(tmp_path, plan)
    larger = dataclasses.replace(plan, seeds=[0, 1, 2])
    write_plan(tmp_path, larger)
    assert load_plan(tmp_path) == larger
    with pytest.raises(ValueError, match="holds the sweep 'digits-tiny' with other settings"):
        write_plan(tmp_path, plan)
    assert load_plan(tmp_path) == larger


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "task": "x"}'])
def test_a_plan_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)


@pytest.mark.parametrize("edit", [('"steps"', '"stops"'), (" 23\n", " 24\n"), ('"cnn"', '"cmn"')])
def test_a_plan_whose_axes_do_not_fit_together_is_named(plan, tmp_path, edit):
    write_plan(tmp_path, plan)
    text = (tmp_path / "sweep.json").read_text()
    assert edit[0] in text
    (tmp_path / "sweep.json").write_text(text.replace(*edit, 1))
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)


def test_a_folder_without_a_plan_is_no_sweep(tmp_path):
    with pytest.raises(ValueError, match="is not a sweep folder"):
        load_plan(tmp_path)


@pytest.fixture
def grown(plan):
    plan = plan.with_size(13, 5).with_seeds(23, [4]).with_rates("cnn", 11, [0.1, 0.03], [1])
    return plan.with_refinements([{"round": 1, "train_size": 23, "seeds": [4], "words": "it was narrow there"}])


def test_a_grown_plan_comes_back_equal(grown, tmp_path):
    write_plan(tmp_path, grown)
    assert load_plan(tmp_path) == grown


def test_a_plan_that_has_not_grown_is_written_as_ever(plan, tmp_path):
    write_plan(tmp_path, plan)
    growth = {"seeds_at", "sizes_added", "rates_at", "refinements"}
    assert not growth & set(json.loads((tmp_path / "sweep.json").read_text()))


def test_a_sweep_file_goes_on_with_what_its_folder_has_grown_by(plan, grown, tmp_path):
    write_plan(tmp_path, grown)
    before = (tmp_path / "sweep.json").read_bytes()
    assert check_folder(tmp_path, plan) == write_plan(tmp_path, plan) == grown
    assert (tmp_path / "sweep.json").read_bytes() == before
    more = dataclasses.replace(plan, seeds=[0, 1, 4, 5])
    assert write_plan(tmp_path, more).seeds_of(23) == [0, 1, 4, 5]
    assert load_plan(tmp_path).train_sizes == [11, 13, 23]
    assert {trial.id for trial in grown.trials} < {trial.id for trial in load_plan(tmp_path).trials}


def test_a_smaller_sweep_file_is_refused_whatever_its_folder_has_grown_by(plan, grown, tmp_path):
    write_plan(tmp_path, grown)
    for smaller in (
        dataclasses.replace(plan, seeds=[1]),
        dataclasses.replace(plan, settings={**plan.settings, "data": {"batch_size": 5}}),
        dataclasses.replace(plan, budget={"unit": "steps", "amount": {"11": 3, "23": 4}}),
    ):
        with pytest.raises(ValueError, match="with other settings"):
            check_folder(tmp_path, smaller)


def test_what_two_launchers_have_grown_is_united(plan, tmp_path):
    write_plan(tmp_path, plan.with_seeds(11, [3]))
    united = write_plan(tmp_path, plan.with_rates("vit", 11, [0.1], [0]))
    assert united == load_plan(tmp_path) == plan.with_seeds(11, [3]).with_rates("vit", 11, [0.1], [0])


def test_a_search_that_has_not_begun_is_defended_as_well(plan, searching, tmp_path):
    write_plan(tmp_path, searching)
    assert not load_plan(tmp_path).trials
    for other in (dataclasses.replace(searching, seeds=[1]), dataclasses.replace(searching, settings={})):
        with pytest.raises(ValueError, match="with other settings"):
            check_folder(tmp_path, other)
    with pytest.raises(ValueError, match=r"with learning_rates: auto, and this config has a list"):
        check_folder(tmp_path, plan)


@pytest.mark.parametrize("edit", [('"words"', '"worse"'), ('"train_size": 23', '"train_size": 24')])
def test_a_refinement_of_nothing_in_the_plan_is_named(grown, tmp_path, edit):
    write_plan(tmp_path, grown)
    text = (tmp_path / "sweep.json").read_text()
    assert edit[0] in text
    (tmp_path / "sweep.json").write_text(text.replace(*edit))
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)


@pytest.mark.parametrize("edit", [("13\n", "17\n"), ('"cnn": {\n   "11"', '"cmn": {\n   "11"'), ("4\n", "9\n")])
def test_growth_that_does_not_fit_the_axes_is_named(grown, tmp_path, edit):
    write_plan(tmp_path, grown)
    text = (tmp_path / "sweep.json").read_text()
    start = text.index('"seeds_at"')
    changed = text[:start] + text[start:].replace(*edit)
    if edit[0] == "4\n":  # a rate for a seed that its size does not have
        changed = text.replace("1\n     ]", "9\n     ]")
    assert changed != text
    (tmp_path / "sweep.json").write_text(changed)
    with pytest.raises(ValueError, match=r"sweep\.json is not a plan"):
        load_plan(tmp_path)
