import dataclasses

import made_up_sweeps as sweeps

from vitlab.analysis.sweep_pairing import (
    as_one,
    have_same_settings,
    match_arms,
    names_in_one,
    share_images,
    unequal_budgets,
)

VIT = {"backbone": {"class_path": "vitlab.models.ViT", "init_args": {"patch_size": 4}}}
PLAN = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)


def _made_up(name, curves=sweeps.AT_TWO_SIZES, plan=PLAN, **settings):
    return sweeps.made_up(name, curves, plan=plan, **settings)


def _named(name, *models):
    """A sweep of ViTs under any names beside the CNN."""
    plan = sweeps.make_plan([*models, "cnn"], train_sizes=sweeps.TWO_SIZES)
    for model in models:
        plan = sweeps.with_settings(plan, model, model=VIT)
    return _made_up(name, {model: sweeps.AT_TWO_SIZES.get(model, [0.4, 0.1]) for model in plan.models}, plan)


def test_arms_belong_together_by_name_and_the_rest_by_family():
    assert match_arms(_made_up("a"), _made_up("b")) == [("vit", "vit"), ("cnn", "cnn")]
    assert match_arms(_named("a", "plain"), _named("b", "better")) == [("plain", "better"), ("cnn", "cnn")]


def test_two_candidates_of_a_family_are_not_guessed_between():
    assert match_arms(_named("a", "one", "two"), _named("b", "better")) == [("cnn", "cnn")]


def test_settings_budgets_and_rates_all_make_an_arm_what_it_is():
    other_budget = {**PLAN.budget, "amount": {**PLAN.budget["amount"], "8000": 151}}
    other_rates = {**PLAN.learning_rates, "cnn": [0.003, 0.001, 0.03]}
    first, again = _made_up("a"), _made_up("b", seed=1)
    assert have_same_settings(first, again, ("vit", "vit"))
    longer = _made_up("b", plan=dataclasses.replace(PLAN, budget=other_budget))
    assert unequal_budgets(first.plan, longer.plan) == [8000]
    assert not have_same_settings(first, longer, ("vit", "vit"))
    tuned = _made_up("b", plan=dataclasses.replace(PLAN, learning_rates=other_rates))
    assert have_same_settings(first, tuned, ("vit", "vit"))
    assert not have_same_settings(first, tuned, ("cnn", "cnn"))


def test_augmentation_leaves_the_images_the_same_and_the_data_set_does_not():
    first = _made_up("a")
    augmented = _made_up("b", plan=sweeps.with_settings(PLAN, "vit", data={"augmentation": "crop", "seed": 3}))
    assert share_images(first, augmented, ("vit", "vit"))
    split = _made_up("b", plan=sweeps.with_settings(PLAN, "vit", data={"val_size": 0.2}))
    assert not share_images(first, split, ("vit", "vit"))
    assert share_images(first, split, ("cnn", "cnn"))
    known = [dataclasses.replace(first, fingerprint=content) for content in ("one", "other")]
    assert not share_images(*known, ("vit", "vit"))
    assert share_images(known[0], first, ("vit", "vit"))


def test_an_arm_equal_in_both_is_drawn_once_and_the_others_apart():
    first, second = _made_up("a"), _made_up("b", {**sweeps.AT_TWO_SIZES, "vit": [0.3, 0.05]})
    matched = match_arms(first, second)
    names = names_in_one(first, second, matched)
    together = as_one(first, second, names, "both")
    assert together.models == ["ViT @ a", "CNN @ both", "ViT @ b"]
    assert len(together.points) == 6
    assert {record["model"] for record in together.selected} == {*together.models}
    assert set(together.fits) == {*together.models}
    moved = _made_up("c", seed=1)
    assert "CNN @ c" in as_one(first, moved, names_in_one(first, moved, matched), "both").models
