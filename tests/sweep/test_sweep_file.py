"""What cannot be run is refused before anything runs, in words."""

import pytest

from vitlab.sweep.sweep_file import read_sweep


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rates: [0.001, 0.01]", "learning_rates: []", r"learning_rates of vit is \[\]; give a list"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: [1e-3]", "write 0.001 or 1.0e-3"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: [0.1, 0.1]", "names a value twice"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: {vit: [0.1]}", "but the models are vit, cnn"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: {vit: [0.1], cnn: [0.1, 0.2]}", "tune each one as often"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: {vit: auto, cnn: [0.1]}", "searched for, for all arms"),
        ("learning_rates: [0.001, 0.01]", "learning_rates: often", "or `learning_rates: auto`"),
        ("train_sizes: [11, 23]", "train_sizes: [0]", r"train_sizes is \[0\]; give a list .* from 1 up"),
        ("train_sizes: [11, 23]", "train_sizes: 11", "give a list"),
        ("seeds: [0, 1]", "seeds: [true]", "give a list of one or more whole numbers"),
        ("seeds: [0, 1]", "seeds: [1, 1]", "names a value twice"),
        ("seeds: [0, 1]", "sedes: [0, 1]", r"unknown: sedes; missing: seeds"),
        ("unit: steps", "unit: hours", "unit .one of steps, epochs, seconds, macs. and amount"),
        ("amount: 3", "amount: {11: 3}", "budget.amount for 23 images is None"),
        ("amount: 3", "amount: 0", "budget.amount for 11 images is 0"),
        ("unit: steps, amount: 3", "unit: macs, epochs: 3", "give unit .* and amount"),
        ("unit: steps, amount: 3", "unit: epochs, amount: 1.5", r"is 1.5; give one whole number"),
        ("unit: steps, amount: 3", "unit: seconds, amount: -0.5", "is -0.5; give one positive number of seconds"),
        ("unit: steps, amount: 3", "unit: seconds, amount: .nan", "is nan; give one positive number of seconds"),
        ("unit: steps, amount: 3", "unit: seconds, amount: true", "is True; give one positive number of seconds"),
        ("unit: steps, amount: 3", "unit: macs, amount: .inf", "is inf; give one positive number of macs"),
        ("unit: steps, amount: 3", "unit: macs, amount: 1e12", "is '1e12' .YAML reads 1e12 as text: write 1.0e.12"),
        ("unit: steps, amount: 3", "unit: macs, amount: {11: 5.0e+9}", "for 23 images is None; give one positive"),
        ("task: digits-tiny", "task: digits-tiny\nconfigs: [nowhere.yaml]", "cannot read the config .*nowhere.yaml"),
    ],
)
def test_a_wrong_value_is_refused_in_words(write_sweep, old, new, words):
    with pytest.raises(ValueError, match=words):
        read_sweep(write_sweep((old, new)))


DIAL = "task: digits-tiny\ndial: {label: width (numbers), arms: {vit: 12, cnn: 8}}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("label: width (numbers), ", "", "give label, such as .* and arms: a number for each model"),
        ("{vit: 12, cnn: 8}", "[12, 8]", "give label, such as"),
        ("{vit: 12, cnn: 8}", "{vit: 12}", "the dial's arms are vit, but the models are vit, cnn"),
        ("cnn: 8", "cnn: wide", "cnn stands at 'wide' on the dial; give a number, or .family, number."),
        ("cnn: 8", "cnn: true", "cnn stands at True on the dial"),
        ("cnn: 8", "cnn: .inf", "cnn stands at inf on the dial"),
        ("cnn: 8", "cnn: [1, 8]", r"cnn stands at \[1, 8\] on the dial"),
        ("cnn: 8", "cnn: 12", "dial.arms names a value twice"),
        ("vit: 12, cnn: 8", "vit: [net, 12], cnn: 8", "every arm of a dial needs a family, or none"),
    ],
)
def test_a_dial_that_cannot_be_drawn_is_refused_in_words(write_sweep, old, new, words):
    assert old in DIAL
    with pytest.raises(ValueError, match=words):
        read_sweep(write_sweep(("task: digits-tiny", DIAL.replace(old, new))))


def test_every_arm_of_a_dial_has_a_family_and_a_value(write_sweep):
    plain = read_sweep(write_sweep(("task: digits-tiny", DIAL)))
    assert plain.dial == {"label": "width (numbers)", "arms": {"vit": [None, 12], "cnn": [None, 8]}}
    families = DIAL.replace("vit: 12, cnn: 8", "vit: [ViT, 7], cnn: [CNN, 7]")
    shared = read_sweep(write_sweep(("task: digits-tiny", families)))
    assert shared.dial["arms"] == {"vit": ["ViT", 7], "cnn": ["CNN", 7]}


def test_a_dial_changes_no_trial(write_sweep):
    with_dial, without = read_sweep(write_sweep(("task: digits-tiny", DIAL))), read_sweep(write_sweep())
    assert without.dial is None
    assert [trial.id for trial in with_dial.trials] == [trial.id for trial in without.trials]


def test_models_must_have_names(tmp_path, sweep_text):
    path = tmp_path / "sweep.yaml"
    before, after = sweep_text.split("models:")[0], sweep_text[sweep_text.index("train_sizes:") :]
    path.write_text(f"{before}models: []\n{after}")
    with pytest.raises(ValueError, match="give each arm a name"):
        read_sweep(path)


@pytest.mark.parametrize("content", ["", "- a\n", "a: ["])
def test_what_is_not_a_yaml_mapping_is_named(tmp_path, content):
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.yaml"):
        read_sweep(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read the config .*nowhere\.yaml"):
        read_sweep(tmp_path / "nowhere.yaml")


def test_overrides_win_in_all_arms(write_sweep):
    plan = read_sweep(write_sweep(), ["data.batch_size=64", "data.dataset.init_args.image_size=16"])
    for trial in plan.trials:
        assert trial.settings["data"]["batch_size"] == 64
        assert trial.settings["data"]["dataset"]["init_args"] == {"image_size": 16}
        assert trial.settings["data"]["dataset"]["class_path"] == "vitlab.data.Digits"


@pytest.mark.parametrize("override", ["data.batch_size", "=3"])
def test_an_override_without_name_or_value_is_refused(write_sweep, override):
    with pytest.raises(ValueError, match="is not of the form name=value"):
        read_sweep(write_sweep(), [override])


def test_configs_are_looked_up_beside_the_sweep_and_later_ones_win(write_sweep):
    path = write_sweep(("task: digits-tiny", "task: t\nconfigs: [a.yaml, b.yaml]"), ("    batch_size: 32\n", ""))
    (path.parent / "a.yaml").write_text("data: {batch_size: 7, num_workers: 1}")
    (path.parent / "b.yaml").write_text("data: {batch_size: 9}")
    plan = read_sweep(path)
    assert plan.settings["data"]["batch_size"] == 9
    assert plan.settings["data"]["num_workers"] == 1


def test_a_budget_may_differ_by_size(write_sweep):
    plan = read_sweep(write_sweep(("amount: 3", "amount: {11: 3, 23: 5}")))
    assert {trial.train_size: trial.settings["trainer"]["max_steps"] for trial in plan.trials} == {11: 3, 23: 5}


AXES = ["model.learning_rate=0.1", "data.train_size=7", "data.seed=1", "seed_everything=3", "trainer.max_steps=5"]


@pytest.mark.parametrize("axis", AXES)
def test_what_the_axes_decide_cannot_be_overridden(write_sweep, axis):
    with pytest.raises(ValueError, match="which a sweep decides for each trial"):
        read_sweep(write_sweep(), [axis])


def test_a_data_size_experiment_has_no_use_for_limit_train_batches(write_sweep):
    with pytest.raises(ValueError, match="limit_train_batches"):
        read_sweep(write_sweep(("trainer: {accelerator: cpu}", "trainer: {accelerator: cpu, limit_train_batches: 2}")))


def test_auto_stands_for_rates_that_are_searched_for(searching, plan):
    assert searching.searches_rates
    assert not plan.searches_rates
    assert searching.trials == []


@pytest.mark.parametrize("axis", ["model.learning_rate: 0.5", "data.train_size: 30"])
def test_what_the_axes_decide_cannot_be_overridden_by_a_dotted_name_either(write_sweep, axis):
    with pytest.raises(ValueError, match=f"gives {axis.replace(': ', '=')}, which a sweep decides for each trial"):
        read_sweep(write_sweep(("settings:\n", f"settings:\n  {axis}\n")))
    with pytest.raises(ValueError, match="which a sweep decides for each trial"):
        read_sweep(write_sweep(("  cnn:\n", f"  cnn:\n    {axis}\n")))


def test_dotted_settings_are_those_that_are_nested(write_sweep):
    dotted = write_sweep(("    batch_size: 32\n", ""), ("settings:\n", "settings:\n  data.batch_size: 32\n"))
    assert read_sweep(dotted) == read_sweep(write_sweep())


@pytest.mark.parametrize("override", ["train_sizes=[20,40]", "seeds=[1]", "budget.amount=5", "models.vit=x.yaml"])
def test_a_key_of_the_sweep_file_is_no_setting(override, write_sweep):
    path = write_sweep()
    key = override.partition("=")[0].partition(".")[0]
    with pytest.raises(ValueError, match=f"{key} is a key of the sweep file and no setting; change it in {path}"):
        read_sweep(path, [override])
    assert read_sweep(path, ["data.batch_size=64"]).model_settings["vit"]["data"] == {"batch_size": 64}
