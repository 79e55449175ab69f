import inspect

import pytest

from vitlab.analysis import arms
from vitlab.analysis.arms import differing, named_arm, read_arm


def _arm(class_path, dataset=None, **backbone):
    settings = {"model": {"backbone": {"class_path": class_path, **backbone}}, "data": {"dataset": dataset}}
    return read_arm("x", settings)


@pytest.mark.parametrize(
    ("name", "family", "stem", "patch_size"),
    [
        ("resnet50.a1_in1k", "cnn", "7x7", None),
        ("seresnext50_32x4d", "cnn", "7x7", None),
        ("convnext_tiny", "cnn", "strided", None),
        ("tf_efficientnet_b0", "cnn", "strided", None),
        ("vit_tiny_patch16_224", "vit", None, 16),
        ("deit3_small_patch16_224", "vit", None, 16),
        ("vit_base_resnet50d_224", "hybrid", None, None),
        ("mixer_b16_224", None, None, None),
    ],
)
def test_timms_names_tell_the_family(name, family, stem, patch_size):
    arm = _arm("vitlab.models.TimmModel", init_args={"name": name, "pretrained": True})
    assert (arm.family, arm.stem, arm.patch_size, arm.is_pretrained) == (family, stem, patch_size, True)


@pytest.mark.slow  # for the imports
def test_a_vits_defaults_are_those_of_the_class():
    from vitlab.models import ResNet, ViT

    arm = _arm("vitlab.models.ViT")
    parameters = inspect.signature(ViT).parameters
    assert arm.patch_size == parameters["patch_size"].default
    assert arms._POSITIONS[parameters["position"].default.__name__] == arm.position == "1-D"
    assert _arm("vitlab.models.ResNet").stem == inspect.signature(ResNet).parameters["stem"].default


@pytest.mark.parametrize(
    ("arguments", "position"),
    [
        ({"position": "vitlab.attention.NoPosition"}, "none"),
        ({"position": {"class_path": "vitlab.attention.SinCos2D"}}, "2-D"),
        (
            {"attention": {"class_path": "A", "init_args": {"position": {"class_path": "vitlab.attention.RoPE2D"}}}},
            "other",
        ),
    ],
)
def test_positions_are_told_apart(arguments, position):
    assert _arm("vitlab.models.ViT", init_args=arguments).position == position


def test_hybrids_are_neither_vit_nor_cnn():
    assert _arm("vitlab.models.ViT", init_args={"tokenizer": "vitlab.models.ConvStem"}).family == "hybrid"
    assert _arm("vitlab.models.ResNet", init_args={"attention": {"class_path": "A"}}).family == "hybrid"


@pytest.mark.slow  # for the imports
def test_sizes_of_data_sets_are_those_of_the_data_sets():
    import vitlab.data

    for name, side in arms._IMAGE_SIDES.items():
        data = getattr(vitlab.data, name)
        given = inspect.signature(data).parameters.get("image_size")
        size = getattr(data, "image_size", None) if given is None else given.default
        assert side == (size if isinstance(size, int) else min(size)), name
    assert _arm("M", {"class_path": "vitlab.data.Digits"}).image_side == 8
    assert _arm("M", {"class_path": "vitlab.data.Digits", "init_args": {"image_size": 24}}).image_side == 24
    assert _arm("M", "vitlab.data.CIFAR10").image_side == 32


@pytest.mark.slow  # for the imports
def test_positions_and_classes_that_are_named_exist():
    import vitlab.attention
    import vitlab.models

    assert all(hasattr(vitlab.attention, name) for name in arms._POSITIONS)
    assert all(hasattr(vitlab.models, name) for name in ("ViT", "ResNet", "RNN", "TimmModel", "ConvStem"))


@pytest.mark.parametrize(
    ("name", "family"), [("vit", "vit"), ("ViT-small", "vit"), ("resnet_18", "cnn"), ("window7", None), ("gru", "rnn")]
)
def test_a_name_alone_tells_the_family_where_it_starts_with_it(name, family):
    assert named_arm(name).family == family


def test_what_differs_is_given_by_setting_and_arm():
    one = {"data": {"dataset": {"class_path": "D", "init_args": {"distance": 1}}, "val_size": 5}}
    two = {
        "data": {"dataset": {"class_path": "D", "init_args": {"distance": 2}}, "val_size": 5},
        "trainer": {"x": None},
    }
    assert differing({"a": one, "b": two}) == {
        "data.dataset.distance": {"a": "1", "b": "2"},
        "trainer.x": {"a": "not set", "b": "null"},
    }
