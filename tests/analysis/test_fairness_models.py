import dataclasses

import made_up_sweeps as sweeps
import pytest


def _with_network(model, class_path, dataset="Glyphs", **backbone):
    plan = sweeps.make_plan()
    plan = dataclasses.replace(plan, settings={"data": {"dataset": {"class_path": f"vitlab.data.{dataset}"}}})
    return sweeps.with_settings(plan, model, model={"backbone": {"class_path": class_path, **backbone}})


@pytest.mark.parametrize(
    "network",
    [
        ("vitlab.models.ResNet", {"init_args": {"size": "resnet18", "stem": "7x7"}}),
        ("vitlab.models.TimmModel", {"init_args": {"name": "resnet18"}}),
        ("vitlab.models.TimmModel", {"init_args": {"name": "wide_resnet50_2.tv_in1k"}}),
        ("vitlab.models.TimmModel", {"init_args": {"name": "densenet121"}}),
    ],
)
def test_an_imagenet_stem_on_small_images_is_refused(network):
    plan = _with_network("cnn", network[0], "CIFAR10", **network[1])
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check, flaw.models) == ("refuse", "small_image_stem", ("cnn",))
    assert "32 pixels" in flaw.words
    assert "stem: 3x3" in flaw.words


def test_other_nets_that_shrink_small_images_at_once_are_warned_of():
    plan = _with_network("cnn", "vitlab.models.TimmModel", "CIFAR10", init_args={"name": "convnext_tiny"})
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check) == ("warn", "small_image_stem")


@pytest.mark.parametrize(("side", "level"), [(64, "refuse"), (65, "warn"), (96, "warn"), (97, None), (224, None)])
def test_an_imagenet_stem_suits_large_images(side, level):
    plan = _with_network("cnn", "vitlab.models.ResNet", init_args={"stem": "7x7"})
    dataset = {"class_path": "vitlab.data.ImageFolder", "init_args": {"image_size": side}}
    plan = dataclasses.replace(plan, settings={"data": {"dataset": dataset}})
    found = [f.level for f in sweeps.find(plan, sweeps.matched_records(plan)) if f.check == "small_image_stem"]
    assert found == ([level] if level else [])


def test_images_of_unknown_size_are_noted():
    plan = _with_network("cnn", "vitlab.models.ResNet", "MyOwnImages", init_args={"stem": "7x7"})
    words = sweeps.noted(plan, sweeps.matched_records(plan), "small_image_stem").words
    assert "do not tell the size" in words


@pytest.mark.parametrize(
    ("class_path", "arguments"),
    [("ViT", {"patch_size": 16}), ("ViT", {}), ("TimmModel", {"name": "vit_tiny_patch16_224.augreg_in21k"})],
)
def test_patches_too_coarse_for_the_images_are_warned_of(class_path, arguments):
    plan = _with_network("vit", f"vitlab.models.{class_path}", "CIFAR10", init_args=arguments)
    flaw = sweeps.only_flaw(plan, sweeps.matched_records(plan))
    assert (flaw.level, flaw.check, flaw.models) == ("warn", "coarse_patches", ("vit",))
    assert "32 pixels as 2 patches along a side; use a patch_size of 8 or less" in flaw.words


def test_four_patches_along_a_side_are_enough():
    plan = _with_network("vit", "vitlab.models.ViT", "CIFAR10", init_args={"patch_size": 8})
    assert {finding.level for finding in sweeps.find(plan, sweeps.matched_records(plan))} == {"note"}


@pytest.mark.parametrize("key", ["params", "macs", "seconds"])
def test_costs_that_are_far_apart_are_stated_with_their_numbers(key):
    plan = sweeps.make_plan()
    records = sweeps.matched_records(plan)
    for record in records:
        record[key] = 3000.0 if record["model"] == "vit" else 1000.0
    flaw = sweeps.only_flaw(plan, records)
    assert (flaw.level, flaw.check) == ("warn", key)
    assert "not matched, 3.0 times" in flaw.words
    assert "3,000" in flaw.words or "3000.0 s" in flaw.words


def test_seconds_are_compared_at_the_sizes_that_all_arms_have():
    plan = sweeps.make_plan()
    records = [record | {"seconds": record["train_size"] / 10} for record in sweeps.matched_records(plan)]
    records = [r for r in records if r["model"] == "cnn" or r["train_size"] < 2000]
    levels = [finding.level for finding in sweeps.find(plan, records) if finding.check == "seconds"]
    assert levels == ["note"]


def test_parameters_that_move_with_a_dial_are_no_flaw():
    arms = {"small": [None, 48], "middle": [None, 96], "large": [None, 192]}
    plan = sweeps.make_plan(models=list(arms), dial={"label": "width", "arms": arms})
    plan = dataclasses.replace(
        plan,
        model_settings={
            name: {
                "model": {"backbone": {"class_path": "vitlab.models.ViT", "init_args": {"dim": dim, "patch_size": 4}}}
            }
            for name, (_, dim) in arms.items()
        },
    )
    curves = {model: [0.4, 0.3, 0.2, 0.1, 0.05] for model in plan.models}
    records = [r | {"params": arms[r["model"]][1] ** 2} for r in sweeps.matched_records(plan, curves=curves)]
    assert "16 times from end to end" in sweeps.noted(plan, records, "params").words
    mixed = [r | {"params": 9 if r["model"] == "middle" else 1} for r in records]
    assert sweeps.only_flaw(plan, mixed).check == "params"
