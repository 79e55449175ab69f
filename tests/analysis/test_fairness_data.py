import dataclasses

import made_up_sweeps as sweeps
import pytest


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("data", "val_size", 7),
        ("data", "dataset", {"class_path": "vitlab.data.Digits"}),
        ("trainer", "limit_val_batches", 3),
    ],
)
def test_arms_that_see_other_images_are_refused(part, name, value):
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", **{part: {name: value}})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("refuse", f"different_{part}")
    assert name in flaw.words
    assert "Move these to the sweep's `settings`" in flaw.words


def test_a_finding_names_each_arms_value():
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", data={"val_size": 7})
    assert "val_size (ViT 7, CNN not set)" in sweeps.only_flaw(plan, sweeps.matched_records(plan)).words


def test_a_batch_size_of_ones_own_is_warned_of():
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", data={"batch_size": 3})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("warn", "different_data")
    assert "batch_size (ViT 3, CNN not set)" in flaw.words


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("data", {"augmentation": {"class_path": "vitlab.data.Augmentation", "init_args": {"rand_augment_ops": 2}}}),
        ("model", {"mixup_alpha": 0.8}),
        ("model", {"cutmix_alpha": 1.0}),
        ("model", {"label_smoothing": 0.1}),
    ],
)
def test_unequal_augmentation_is_warned_of(part, settings):
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", **{part: settings})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("warn", "unequal_augmentation")
    assert next(iter(settings)) in flaw.words
    assert "Give all arms the same" in flaw.words


def test_a_proportional_draw_is_named_and_refused_where_one_arm_alone_has_it():
    own = sweeps.with_settings(sweeps.make_plan(), "vit", data={"draw": "proportional"})
    flaw = sweeps.only_flaw(own, sweeps.matched_records(own))
    assert (flaw.level, flaw.check) == ("refuse", "different_data")
    both = sweeps.with_settings(own, "cnn", data={"draw": "proportional"})
    words = [finding.words for finding in sweeps.find(both, sweeps.matched_records(both))]
    assert "Same seeds for every arm: the same images, in nested subsets in which classes keep their shares." in words


def _one_network(plan):
    """Return the plan with the first arm's network in both arms."""
    network = plan.model_settings[plan.models[0]]["model"]["backbone"]
    return dataclasses.replace(plan, model_settings={name: {"model": {"backbone": network}} for name in plan.models})


def _alike(plan):
    return [record | {"params": 60_000} for record in sweeps.matched_records(plan)]


def test_augmentation_that_the_arms_are_about_is_no_flaw():
    plan = _one_network(sweeps.make_plan())
    plan = sweeps.with_settings(plan, "vit", model={"mixup_alpha": 0.8, "cutmix_alpha": 1.0})
    words = sweeps.noted(plan, _alike(plan), "subject").words
    assert "mixup_alpha (ViT 0.8, CNN not set)" in words
    assert "on purpose" in words


def test_two_differences_at_once_are_not_what_a_sweep_is_about():
    plan = _one_network(sweeps.make_plan())
    plan = sweeps.with_settings(plan, "vit", model={"mixup_alpha": 0.8}, data={"batch_size": 32})
    checks = {finding.check for finding in sweeps.find(plan, _alike(plan)) if finding.level == "warn"}
    assert checks == {"unequal_augmentation", "different_data"}


def test_fewer_validation_images_are_never_what_a_sweep_is_about():
    plan = sweeps.with_settings(_one_network(sweeps.make_plan()), "vit", data={"val_size": 7})
    assert sweeps.only_flaw(plan, _alike(plan)).level == "refuse"


@pytest.mark.parametrize(
    ("part", "settings", "check"),
    [
        ("trainer", {"gradient_clip_val": 1.0}, "different_trainer"),
        ("model", {"optimizer": {"class_path": "vitlab.training.SGD"}}, "different_optimizer"),
    ],
)
def test_other_settings_of_an_arms_own_are_noted(part, settings, check):
    plan = sweeps.with_settings(sweeps.make_plan(), "vit", **{part: settings})
    assert next(iter(settings)) in sweeps.noted(plan, sweeps.matched_records(plan), check).words


def test_an_optimizer_of_an_arms_own_is_named_with_each_arms():
    plan = sweeps.make_plan()
    for model, name in {"vit": "Muon", "cnn": "AdamW"}.items():
        plan = sweeps.with_settings(plan, model, model={"optimizer": {"class_path": f"vitlab.training.{name}"}})
    words = sweeps.noted(plan, sweeps.matched_records(plan), "different_optimizer").words
    assert 'optimizer.class_path (ViT "vitlab.training.Muon", CNN "vitlab.training.AdamW")' in words
    assert "the result holds for these recipes" in words


def test_one_network_with_two_optimizers_is_a_comparison_of_optimizers():
    plan = sweeps.with_settings(
        _one_network(sweeps.make_plan()), "vit", model={"optimizer": {"class_path": "vitlab.training.Muon"}}
    )
    assert "vitlab.training.Muon" in sweeps.noted(plan, _alike(plan), "subject").words


def _dial_plan(families, datasets):
    """Return a plan whose dial is the distance in its data, one arm for each family and distance."""
    models = [f"{family}{distance}" for family in families for distance in datasets]
    arms = {f"{family}{n}": [family if len(families) > 1 else None, n] for family in families for n in datasets}
    plan = sweeps.make_plan(models=models, dial={"label": "distance (tokens)", "arms": arms})
    settings = {}
    for family in families:
        for distance, dataset in datasets.items():
            network = {"backbone": {"class_path": f"vitlab.models.{family}"}}
            settings[f"{family}{distance}"] = {"model": network, "data": {"dataset": dataset}}
    return dataclasses.replace(plan, model_settings=settings)


def _dial_records(plan):
    curves = {model: [0.4, 0.3, 0.2, 0.1, 0.05] for model in plan.models}
    return [record | {"params": 60_000} for record in sweeps.matched_records(plan, curves=curves)]


def _pairs(distance, **more):
    return {"class_path": "vitlab.data.PairsAtDistance", "init_args": {"distance": distance, **more}}


def test_data_settings_that_the_dial_turns_are_no_flaw():
    plan = _dial_plan(["vit"], {distance: _pairs(distance) for distance in (1, 16, 32)})
    note = sweeps.noted(plan, _dial_records(plan), "subject")
    assert "dataset.distance (vit1 1, vit16 16, vit32 32) on purpose" in note.words


def test_another_data_setting_beside_the_dials_is_refused():
    datasets = {distance: _pairs(distance, distractors=distance > 1) for distance in (1, 16)}
    flaw = sweeps.only_flaw(plan := _dial_plan(["vit"], datasets), _dial_records(plan))
    assert flaw.level == "refuse"
    assert "dataset.distractors" in flaw.words
    assert "dataset.distance" not in flaw.words


def test_families_on_a_dial_are_compared_at_the_same_place():
    plan = _dial_plan(["vit", "gru"], {distance: _pairs(distance) for distance in (1, 16)})
    assert {finding.level for finding in sweeps.find(plan, _dial_records(plan))} == {"note"}


def test_two_seeds_are_too_few():
    plan = sweeps.make_plan(num_seeds=2)
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("warn", "num_seeds")
    assert "As few as 2 seeds at every size" in flaw.words
    assert "3 or more" in flaw.words


def test_too_few_seeds_at_one_size_are_named_with_the_size():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if record["train_size"] == 600 and record["seed"] > 1:
            record["test"] = None
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.check, flaw.train_sizes) == ("num_seeds", (600,))


def test_other_seeds_mean_other_images():
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        if (record["model"], record["train_size"], record["seed"]) == ("vit", 2000, 3):
            record["test"] = None
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check, flaw.train_sizes) == ("warn", "different_subsets", (2000,))
    assert "at 2,000 images" in flaw.words
    assert "Run `vitlab sweep` again" in flaw.words
