"""Weight decay goes where it belongs, and the schedule has the shape that its docstring says."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn

from vitlab.models import RNN, ConvStem, ResNet, TimmModel, ViT
from vitlab.training.optimizer import SGD, AdamW, Muon, decay_groups, hidden_weights, warmup_cosine

MODELS = {
    "vit": lambda: ViT(image_size=8, num_classes=3, patch_size=4, size="micro"),
    "hybrid": lambda: ViT(image_size=8, num_classes=3, patch_size=4, size="micro", tokenizer=ConvStem),
    "resnet": lambda: ResNet(image_size=8, num_classes=3, size="micro"),
    "rnn": lambda: RNN(image_size=8, num_classes=3, patch_size=4, size="micro"),
    "timm_vit": lambda: TimmModel("test_vit", 16, 3, patch_size=4),
    "timm_convnext": lambda: TimmModel("test_convnext", 32, 3),
}
# Where the hidden weights of each model are, by the beginnings of their names.
HIDDEN = {
    "vit": "blocks.",
    "hybrid": "blocks.",
    "resnet": "stages.",
    "rnn": "layers.weight_",
    "timm_vit": "model.blocks.",
    "timm_convnext": "model.stages.",
}


@pytest.fixture
def vit():
    return ViT(image_size=8, num_classes=3, patch_size=4, size="micro")


@pytest.mark.parametrize("recipe", [AdamW(weight_decay=0.3), SGD(weight_decay=0.3), Muon(weight_decay=0.3)])
def test_every_parameter_is_in_one_group_and_only_matrices_decay(vit, recipe):
    optimizer = recipe.build(vit, 0.1)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decays) == len(list(vit.parameters()))
    for name, parameter in vit.named_parameters():
        exempt = parameter.ndim < 2 or name in vit.no_weight_decay()
        assert decays[id(parameter)] == (0 if exempt else 0.3), name
    assert vit.no_weight_decay() <= {name for name, _ in vit.named_parameters()}


def test_the_learning_rate_given_is_the_one_used(vit):
    recipes = AdamW(), SGD(), Muon()
    assert {group["lr"] for recipe in recipes for group in recipe.build(vit, 0.37).param_groups} == {0.37}


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


@pytest.mark.parametrize("make", [AdamW, SGD, Muon])
def test_a_negative_weight_decay_is_refused(make):
    with pytest.raises(ValueError, match="weight_decay is -1"):
        make(weight_decay=-1)


def test_impossible_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum is 1"):
        SGD(momentum=1.0)
    with pytest.raises(ValueError, match="momentum is 1"):
        Muon(momentum=1.0)
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        SGD(momentum=0.0)


def test_frozen_parameters_are_left_out(vit):
    vit.tokenizer.requires_grad_(False)
    held = {id(p) for group in decay_groups(vit, 0.1) for p in group["params"]}
    assert not held & {id(p) for p in vit.tokenizer.parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_muon_gets_the_matrices_of_hidden_layers_and_nothing_else(name):
    model = MODELS[name]()
    hidden = hidden_weights(model)
    for weight_name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and parameter.shape[1] > 1  # a depthwise kernel sees one channel
        expected = weight_name.startswith(HIDDEN[name]) and is_matrix
        assert (weight_name in hidden) == expected, weight_name
    groups = Muon().build(model, 0.1).param_groups
    uses_muon = {id(p): group["use_muon"] for group in groups for p in group["params"]}
    assert uses_muon == {id(p): name in hidden for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["vit", "resnet", "rnn"])
def test_hidden_weights_take_torchs_muon_steps_and_the_others_its_adamw_steps_on_the_schedule(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    hidden = hidden_weights(model)
    ours = dict(model.named_parameters())
    start = {key: value.detach().clone() for key, value in ours.items()}
    theirs = {key: nn.Parameter((v.flatten(1) if key in hidden else v).clone()) for key, v in start.items()}
    decayed = {id(p) for p in decay_groups(model, 0.1)[1]["params"]}
    groups = {key: {"params": [theirs[key]], "weight_decay": 0.1 * (id(p) in decayed)} for key, p in ours.items()}
    optimizers = [
        Muon(weight_decay=0.1).build(model, 0.01),
        torch.optim.Muon([groups[key] for key in hidden], lr=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([groups[key] for key in ours if key not in hidden], lr=0.01),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: 0.4**step) for each in optimizers]
    for _ in range(5):
        for key, parameter in ours.items():
            parameter.grad = torch.randn_like(parameter)
            theirs[key].grad = parameter.grad.reshape(theirs[key].shape).clone()
        for each in (*optimizers, *schedules):
            each.step()
    for key, begun in start.items():
        moved, expected = (one.detach().reshape(begun.shape) - begun for one in (ours[key], theirs[key]))
        error = float((moved - expected).norm() / expected.norm())
        assert error < (0.01 if key in hidden else 1e-5), key  # orthogonalized in bfloat16


def test_updates_of_all_shapes_are_orthogonal_and_as_large_as_adamws():
    model = MODELS["resnet"]()
    start = copy.deepcopy(model)
    optimizer = Muon(weight_decay=0).build(model, 0.01)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    before = hidden_weights(start)
    shapes = set()
    for name, weight in hidden_weights(model).items():
        update = (weight - before[name]).detach().flatten(1) / 0.01
        values = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
        assert values.min() > 0.5, name
        assert values.max() < 1.3, name
        assert float(update.square().mean().sqrt()) == pytest.approx(0.2, rel=0.25), name
        shapes.add(tuple(update.shape))
    assert len(shapes) > 4


def test_a_saved_muon_goes_on_to_the_same_bits(vit):
    vits = [vit, copy.deepcopy(vit)]
    first = Muon().build(vit, 0.01)

    def step(model, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    for seed in range(3):
        step(vit, first, seed)
    file = io.BytesIO()
    torch.save([vit.state_dict(), first.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    vits[1].load_state_dict(weights)
    second = Muon().build(vits[1], 0.5)
    second.load_state_dict(state)
    for model, optimizer in zip(vits, (first, second), strict=True):
        step(model, optimizer, 3)
    assert all(torch.equal(one, two) for one, two in zip(*(model.parameters() for model in vits), strict=True))


def test_muon_refuses_a_model_whose_first_and_last_layer_it_is_not_told():
    with pytest.raises(ValueError, match=r"Linear does not say which .* input_and_output_layers\(\).*training.AdamW"):
        Muon().build(nn.Linear(3, 5), 0.1)


def test_muon_refuses_a_model_without_hidden_layers(vit):
    vit.blocks = nn.ModuleList()
    with pytest.raises(ValueError, match="ViT has no weight matrices between its first and last layer"):
        Muon().build(vit, 0.1)
