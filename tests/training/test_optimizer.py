"""Weight decay goes where it belongs, and the schedule has the shape that its docstring says."""

import itertools

import pytest
import torch
from torch import nn

from vitlab.models import ViT
from vitlab.training.optimizer import SGD, AdamW, decay_groups, warmup_cosine


@pytest.fixture
def vit():
    return ViT(image_size=8, num_classes=3, patch_size=4, size="micro")


@pytest.mark.parametrize("recipe", [AdamW(weight_decay=0.3), SGD(weight_decay=0.3)])
def test_every_parameter_is_in_one_group_and_only_matrices_decay(vit, recipe):
    optimizer = recipe.build(vit, 0.1)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decays) == len(list(vit.parameters()))
    for name, parameter in vit.named_parameters():
        exempt = parameter.ndim < 2 or name in vit.no_weight_decay()
        assert decays[id(parameter)] == (0 if exempt else 0.3), name
    assert vit.no_weight_decay() <= {name for name, _ in vit.named_parameters()}


def test_the_learning_rate_given_is_the_one_used():
    model = nn.Linear(3, 5)
    assert {group["lr"] for recipe in (AdamW(), SGD()) for group in recipe.build(model, 0.37).param_groups} == {0.37}


@pytest.mark.parametrize("recipe", [AdamW(weight_decay=0.2), SGD(weight_decay=0.2)])
def test_updates_equal_those_of_plain_torch(recipe):
    torch.manual_seed(0)
    ours = nn.Linear(3, 5, bias=False)
    theirs = nn.Linear(3, 5, bias=False)
    theirs.load_state_dict(ours.state_dict())
    plain = {
        AdamW: lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.2),
        SGD: lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
    }
    optimizers = recipe.build(ours, 0.1), plain[type(recipe)](theirs.parameters())
    for step in range(7):
        images = torch.full((2, 3), float(step + 1))
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-6)


def test_warm_up_rises_to_one_and_the_cosine_falls_to_zero():
    factors = [warmup_cosine(step, warmup_steps=5, total_steps=23) for step in range(24)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert factors[5] == 1.0
    assert all(before > after for before, after in itertools.pairwise(factors[5:]))
    assert factors[14] == pytest.approx(0.5)
    assert factors[23] == pytest.approx(0.0)


def test_without_warm_up_the_first_step_is_a_full_one():
    assert warmup_cosine(0, warmup_steps=0, total_steps=7) == 1.0


@pytest.mark.parametrize("make", [lambda: AdamW(weight_decay=-1), lambda: SGD(weight_decay=-1)])
def test_a_negative_weight_decay_is_refused(make):
    with pytest.raises(ValueError, match="weight_decay is -1"):
        make()


def test_impossible_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum is 1"):
        SGD(momentum=1.0)
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        SGD(momentum=0.0)


def test_frozen_parameters_are_left_out(vit):
    vit.tokenizer.requires_grad_(False)
    held = {id(p) for group in decay_groups(vit, 0.1) for p in group["params"]}
    assert not held & {id(p) for p in vit.tokenizer.parameters()}
