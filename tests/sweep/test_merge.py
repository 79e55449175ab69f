"""Folders are made into one only where they are parts of one sweep; each trial keeps its one result."""

import dataclasses

import pytest

from vitlab.sweep import store
from vitlab.sweep.kept_predictions import predictions_path
from vitlab.sweep.merge import MergeCounts, merge_sweeps
from vitlab.sweep.nested_settings import merge
from vitlab.sweep.plan_file import load_plan, write_plan
from vitlab.sweep.verify import verify


@pytest.fixture
def write_folder(tmp_path, make_record):
    """Write a sweep folder with some records, weights and a subset."""

    def write(name, plan, trials=(), **record):
        folder = tmp_path / name
        write_plan(folder, plan)
        for trial in trials:
            store.write_record(folder, make_record(trial, **record))
            weights = store.checkpoint_path(folder, trial.id)
            weights.parent.mkdir(exist_ok=True)
            weights.write_bytes(f"weights of {trial.id}".encode())
            predictions = predictions_path(folder, trial.id)
            predictions.parent.mkdir(exist_ok=True)
            predictions.write_bytes(f"predictions of {trial.id}".encode())
        return folder

    return write


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_halves_become_a_whole(plan, write_folder, tmp_path):
    first, second = (dataclasses.replace(plan, seeds=[seed]) for seed in (0, 1))
    folders = [write_folder("first", first, first.trials), write_folder("second", second, second.trials)]
    before = [everything(folder) for folder in folders]
    assert merge_sweeps(folders, tmp_path / "out") == MergeCounts(done=16, failed=0, missing=0, twice=0, left_out=0)
    assert load_plan(tmp_path / "out") == plan
    assert store.record_ids(tmp_path / "out") == {trial.id for trial in plan.trials}
    for trial in plan.trials:
        assert store.checkpoint_path(tmp_path / "out", trial.id).read_text() == f"weights of {trial.id}"
    assert [everything(folder) for folder in folders] == before
    assert not [finding for finding in verify(tmp_path / "out") if finding.level == "error"]


@pytest.mark.parametrize("axis", ["train_sizes", "seeds", "models", "learning_rates"])
def test_each_axis_may_differ(plan, write_folder, tmp_path, axis):
    def part(number):
        if axis == "models":
            name = plan.models[number]
            models, rates = {name: plan.model_settings[name]}, {name: plan.learning_rates[name]}
            return dataclasses.replace(plan, model_settings=models, learning_rates=rates)
        if axis == "learning_rates":
            return dataclasses.replace(plan, learning_rates={m: [r[number]] for m, r in plan.learning_rates.items()})
        value = getattr(plan, axis)[number]
        amount = {str(value): 3} if axis == "train_sizes" else plan.budget["amount"]
        return dataclasses.replace(plan, **{axis: [value]}, budget={"unit": "steps", "amount": amount})

    folders = [write_folder(str(number), part(number), part(number).trials) for number in (0, 1)]
    assert merge_sweeps(folders, tmp_path / "out").done == 16
    assert load_plan(tmp_path / "out") == plan


def test_predictions_come_with_the_test_that_they_are_of(plan, write_folder, tmp_path):
    tested, untested = plan.trials[:2]
    folders = [write_folder("one", plan, [untested]), write_folder("two", plan, [tested], test={"accuracy": 0.25})]
    merge_sweeps(folders, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "predictions").iterdir()] == [f"{tested.id}.npz"]
    assert predictions_path(tmp_path / "out", tested.id).read_text() == f"predictions of {tested.id}"


def test_growth_is_united(plan, write_folder, tmp_path):
    one, two = plan.with_seeds(11, [5]), plan.with_size(13, 3).with_seeds(11, [6])
    folders = [write_folder("one", one, one.trials), write_folder("two", two, two.trials)]
    counts = merge_sweeps(folders, tmp_path / "out")
    assert load_plan(tmp_path / "out") == one.with_growth_of(two)
    assert (counts.done, counts.missing, counts.twice) == (16 + 2 * 4 + 8, 0, 16)


def test_halves_of_a_search_by_size_become_a_whole_and_what_is_undecided_is_missing(searching, write_folder, tmp_path):
    parts = []
    for size in searching.train_sizes:
        part = dataclasses.replace(searching, train_sizes=[size], budget={"unit": "steps", "amount": {str(size): 3}})
        parts.append(part.with_rates("vit", size, [0.01, 0.02], [0]))
    folders = [write_folder(str(number), part, part.trials) for number, part in enumerate(parts)]
    assert merge_sweeps(folders, tmp_path / "out") == MergeCounts(done=4, failed=0, missing=40, twice=0, left_out=0)
    assert load_plan(tmp_path / "out").without_growth() == searching


def test_a_search_and_a_grid_are_no_parts_of_one_sweep(plan, searching, write_folder, tmp_path):
    with pytest.raises(ValueError, match="learning_rates is a list and auto"):
        merge_sweeps([write_folder("one", plan), write_folder("two", searching)], tmp_path / "out")


def test_what_nobody_ran_is_missing(plan, write_folder, tmp_path):
    amount = plan.budget["amount"]
    parts = [
        dataclasses.replace(
            plan, seeds=[0], train_sizes=[11], budget={"unit": "steps", "amount": {"11": amount["11"]}}
        ),
        dataclasses.replace(
            plan, seeds=[1], train_sizes=[23], budget={"unit": "steps", "amount": {"23": amount["23"]}}
        ),
    ]
    folders = [write_folder(str(number), part, part.trials) for number, part in enumerate(parts)]
    assert merge_sweeps(folders, tmp_path / "out") == MergeCounts(done=8, failed=0, missing=8, twice=0, left_out=0)


def test_a_trial_that_two_have_done_alike_is_kept_once_with_its_test(plan, write_folder, tmp_path, make_record):
    trial = plan.trials[0]
    folders = [write_folder("untested", plan, [trial]), write_folder("tested", plan)]
    tested = make_record(trial, test={"accuracy": 0.25}) | {"seconds": 9.0}
    store.write_record(folders[1], tested)
    assert merge_sweeps(folders, tmp_path / "out").twice == 1
    assert store.read_record(tmp_path / "out", trial.id)["test"] == {"accuracy": 0.25}
    assert store.checkpoint_path(tmp_path / "out", trial.id).exists()


def test_done_wins_over_failed_in_either_order(plan, write_folder, tmp_path):
    trials = plan.trials[:2]
    done, failed = write_folder("done", plan, trials[:1]), write_folder("failed", plan, trials, status="failed")
    for number, folders in enumerate(([done, failed], [failed, done])):
        out = tmp_path / f"out{number}"
        assert merge_sweeps(folders, out) == MergeCounts(done=1, failed=1, missing=14, twice=0, left_out=0)
        assert store.read_record(out, trials[0].id)["status"] == "done"


@pytest.mark.parametrize("which", ["val", "test"])
def test_two_results_of_one_trial_are_refused_and_nothing_is_written(plan, write_folder, tmp_path, which):
    trial = plan.trials[0]
    results = [{"accuracy": 0.5}, {"accuracy": 0.75}]
    same = {"test": {"accuracy": 1.0}}
    records = [same | ({"accuracy": r["accuracy"]} if which == "val" else {"test": r}) for r in results]
    folders = [write_folder(str(number), plan, [trial], **record) for number, record in enumerate(records)]
    with pytest.raises(ValueError, match=rf"trial {trial.id} \(model vit, 11 images.*two results: {which} is"):
        merge_sweeps(folders, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: {"task": "cats"}, r"task is digits-tiny and cats\."),
        (
            lambda plan: {"budget": {"unit": "epochs", "amount": plan.budget["amount"]}},
            "budget.unit is steps and epochs",
        ),
        (lambda plan: {"budget": {"unit": "steps", "amount": {"11": 3, "23": 4}}}, "budget.amount.23 is 3 and 4"),
        (
            lambda plan: {"settings": merge(plan.settings, {"data": {"batch_size": 7, "num_workers": 1}})},
            "settings.data.batch_size is 32 and 7; settings.data.num_workers is not set and 1",
        ),
        (
            lambda plan: {"model_settings": {**plan.model_settings, "cnn": {"model": {"weight_decay": 0.5}}}},
            r"models\.cnn\.model\.backbone\.class_path is vitlab\.models\.ResNet and not set.*\(and 1 more\)",
        ),
    ],
)
def test_different_questions_are_refused_in_words(plan, write_folder, tmp_path, change, words):
    folders = [write_folder("one", plan), write_folder("two", dataclasses.replace(plan, **change(plan)))]
    with pytest.raises(ValueError, match=f"one and .*two are no parts of one sweep: {words}"):
        merge_sweeps(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arms_that_would_be_tuned_unequally_are_refused(plan, write_folder, tmp_path):
    cnn = {"model_settings": {"cnn": plan.model_settings["cnn"]}, "learning_rates": {"cnn": [0.1, 0.2]}}
    folders = [write_folder("one", plan), write_folder("two", dataclasses.replace(plan, **cnn))]
    with pytest.raises(ValueError, match=r"unequal numbers of learning rates \(vit: 2, cnn: 4\)"):
        merge_sweeps(folders, tmp_path / "out")


def test_dials_are_united(plan, write_folder, tmp_path):
    arms = {"vit": [None, 12], "cnn": [None, 8.5]}
    parts = []
    for model in plan.models:
        own = {"model_settings": {model: plan.model_settings[model]}, "learning_rates": {model: [0.1]}}
        parts.append(dataclasses.replace(plan, **own, dial={"label": "width", "arms": {model: arms[model]}}))
    folders = [write_folder(str(number), part) for number, part in enumerate(parts)]
    merge_sweeps(folders, tmp_path / "out")
    assert load_plan(tmp_path / "out").dial == {"label": "width", "arms": arms}
    folders[1] = write_folder("without", dataclasses.replace(parts[1], dial=None))
    with pytest.raises(ValueError, match="a dial on which cnn has no place"):
        merge_sweeps(folders, tmp_path / "other")


def test_subsets_are_copied_and_must_agree(plan, write_folder, tmp_path):
    folders = [write_folder(name, plan) for name in ("one", "two")]
    for folder in folders:
        (folder / "subsets").mkdir()
        (folder / "subsets" / "n11-seed0-abcdef.json").write_text('{"indices": [1, 2]}')
    (folders[1] / "subsets" / "n23-seed0-abcdef.json").write_text('{"indices": [3]}')
    merge_sweeps(folders, tmp_path / "out")
    assert len(list((tmp_path / "out" / "subsets").iterdir())) == 2
    (folders[1] / "subsets" / "n11-seed0-abcdef.json").write_text('{"indices": [1, 3]}')
    with pytest.raises(ValueError, match="did not see the same images"):
        merge_sweeps(folders, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_records_of_no_planned_trial_are_left_out_and_counted(plan, write_folder, tmp_path):
    first_seed = dataclasses.replace(plan, seeds=[0])
    folders = [write_folder("one", first_seed), write_folder("two", first_seed, plan.trials)]
    assert merge_sweeps(folders, tmp_path / "out") == MergeCounts(done=8, failed=0, missing=0, twice=0, left_out=8)
    assert store.record_ids(tmp_path / "out") == {trial.id for trial in first_seed.trials}


def test_a_record_that_cannot_be_believed_stops_the_merge(plan, write_folder, tmp_path):
    folders = [write_folder("one", plan), write_folder("two", plan, plan.trials)]
    path = store.record_path(folders[1], plan.trials[-1].id)
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(ValueError, match=rf"two/trials/{plan.trials[-1].id}\.json is not as it was written"):
        merge_sweeps(folders, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_folder_that_is_taken_or_too_few_folders_are_refused(plan, write_folder, tmp_path):
    folders = [write_folder("one", plan), write_folder("two", plan)]
    with pytest.raises(ValueError, match="two is there already; choose a new folder"):
        merge_sweeps(folders, folders[1])
    with pytest.raises(ValueError, match=r"takes two or more sweep folders; given: .*one"):
        merge_sweeps(folders[:1], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    merge_sweeps(folders, tmp_path / "empty")
    assert load_plan(tmp_path / "empty") == plan


def test_a_disk_that_is_full_leaves_nothing(plan, write_folder, tmp_path):
    folders = [write_folder("one", plan, plan.trials), write_folder("two", plan)]
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (folders[0] / "checkpoints" / f"{plan.trials[3].id}.ckpt").write_bytes(bytes(50_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            merge_sweeps(folders, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
