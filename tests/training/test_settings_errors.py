"""Wrong settings are explained with what exists."""

from vitlab.training.settings_errors import explain


def test_a_class_that_does_not_exist_brings_the_nearest_and_all_names():
    message = "Parser key \"model.backbone\":\n  Problem:\n    module 'vitlab.models' has no attribute 'Resnet'"
    explained = explain(message)
    assert explained.startswith('setting "model.backbone":')
    assert "did you mean vitlab.models.ResNet?" in explained
    assert "ViT" in explained.splitlines()[-1]


def test_a_name_like_no_other_brings_all_names_without_a_guess():
    explained = explain("module 'vitlab.models' has no attribute 'Qqqqq'")
    assert "did you mean" not in explained
    assert "vitlab.models has Block, " in explained


def test_other_messages_stay_as_they_are():
    assert explain("first\n\n  second") == "first\n  second"
