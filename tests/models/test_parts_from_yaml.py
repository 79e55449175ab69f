"""Every part of attention can be named in a config, as `vitlab fit` reads it."""

import inspect

import jsonargparse
import pytest
import torch
import yaml
from torch import nn

import vitlab.attention
from vitlab.attention import NoPosition, Normalizer, Pattern, Position, Score
from vitlab.models import ViT

ARGUMENTS = {
    "BlockedWindows": {"size": 2, "shift": 1},
    "Both": {
        "first": {"class_path": "vitlab.attention.Window2D", "init_args": {"size": 3}},
        "second": "vitlab.attention.All",
    },
    "Either": {
        "first": "vitlab.attention.All",
        "second": {"class_path": "vitlab.attention.Window1D", "init_args": {"size": 3}},
    },
    "GraphEdges": {"num_nodes": 16, "edges": [[0, 1], [1, 2]]},
    "Window1D": {"size": 3},
    "Window2D": {"size": 3},
}


PARENTS = {"Position", "AbsolutePosition"}  # not abstract in Python's sense, but no choice either


def found(kind):
    parts = [getattr(vitlab.attention, name) for name in vitlab.attention.__all__]
    parts = [part for part in parts if inspect.isclass(part) and issubclass(part, kind)]
    return [part for part in parts if not inspect.isabstract(part) and part.__name__ not in PARENTS]


def first_argument(cls):
    return next(iter(inspect.signature(cls).parameters), None)


def choice(cls):
    return {"class_path": f"vitlab.attention.{cls.__name__}", "init_args": ARGUMENTS.get(cls.__name__, {})}


def vit_with(**options):
    attention = options.pop("attention", {})
    init_args = {"image_size": 16, "num_classes": 7, "patch_size": 4, "size": "micro", **options}
    init_args["attention"] = {"class_path": "vitlab.attention.SelfAttention", "init_args": attention}
    init_args["head"] = {"class_path": "vitlab.models.ClassifierHead", "init_args": {"pooling": "mean"}}
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "model")
    text = yaml.safe_dump({"model": {"class_path": "vitlab.models.ViT", "init_args": init_args}})
    return parser.instantiate(parser.parse_string(text)).model


def check(model, name, cls):
    assert isinstance(model, ViT)
    parts = [getattr(block.attention, name) for block in model.blocks]
    assert all(type(part) is cls for part in parts)
    assert len({id(part) for part in parts}) == len(parts), "blocks share a part"
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize("cls", found(Score))
def test_a_score_is_a_choice_in_yaml(cls):
    check(vit_with(attention={"score": choice(cls)}), "score", cls)


@pytest.mark.parametrize("cls", found(Normalizer))
def test_a_normalizer_is_a_choice_in_yaml(cls):
    score = choice(vitlab.attention.KernelFeatures)
    check(vit_with(attention={"normalizer": choice(cls), "score": score}), "normalizer", cls)


@pytest.mark.parametrize("cls", found(Pattern))
def test_a_pattern_is_a_choice_in_yaml(cls):
    check(vit_with(attention={"pattern": choice(cls)}), "pattern", cls)


@pytest.mark.parametrize("cls", [cls for cls in found(Position) if first_argument(cls) == "num_heads"])
def test_a_position_inside_attention_is_a_choice_in_yaml(cls):
    check(vit_with(attention={"position": choice(cls)}, position="vitlab.attention.NoPosition"), "position", cls)


@pytest.mark.parametrize("cls", [cls for cls in found(Position) if first_argument(cls) == "dim" or cls is NoPosition])
def test_a_position_on_tokens_is_a_choice_in_yaml(cls):
    model = vit_with(position=choice(cls))
    assert type(model.position) is cls
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 7)


def test_parts_that_do_not_go_together_are_refused_in_words():
    with pytest.raises(ValueError, match="Proportional divides scores by their sum"):
        vit_with(attention={"normalizer": choice(vitlab.attention.Proportional)})
