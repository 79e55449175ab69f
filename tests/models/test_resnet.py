import pytest
import torch
import torchvision
from torch import nn

from vitlab.models import ResNet, ResNetShape
from vitlab.models.resnet import SIZES, BasicBlock, Bottleneck

SHAPE = ResNetShape(depths=[1, 2], widths=[8, 24])


def make(**options):
    return ResNet(**{"image_size": 12, "num_classes": 7, "size": SHAPE} | options)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_with_copied_weights_it_equals_torchvision(name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=7).eval()
    ours = ResNet(image_size=64, num_classes=7, size=name, stem="7x7").eval()
    state = theirs.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            state[key] = tensor + 0.1 * torch.rand_like(tensor) * tensor.abs().mean()
    theirs.load_state_dict(state)
    # Both register the same layers in the same order, under other names.
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, outputs = theirs(images), ours(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("stem", ["3x3", "7x7"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_choice_gives_logits_for_any_size_and_learns(norm, stem, block):
    model = make(norm=norm, stem=stem, in_channels=2, size=ResNetShape([1, 2], [8, 24], block))
    model(torch.randn(3, 2, 12, 20)).square().sum().backward()
    assert model(torch.randn(3, 2, 16, 8)).shape == (3, 7)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("stem", "shrink"), [("3x3", 2), ("7x7", 8)])
def test_the_small_stem_keeps_the_image_and_each_later_stage_halves_it(stem, shrink):
    features = make(stem=stem, image_size=32).forward_features(torch.randn(2, 3, 32, 64))
    assert features.shape == (2, 24, 32 // shrink, 64 // shrink)


@pytest.mark.parametrize("name", SIZES)
def test_every_size_of_the_table_can_be_built_with_either_norm(name):
    for norm in ("batch", "group"):
        with torch.device("meta"):
            model = ResNet(image_size=32, num_classes=7, size=name, norm=norm)
        assert [len(stage) for stage in model.stages] == SIZES[name].depths


@pytest.mark.parametrize(("name", "image_size", "low", "high"), [("micro", 16, 40e3, 50e3), ("tiny", 32, 265e3, 280e3)])
def test_small_sizes_have_the_parameters_they_are_known_by(name, image_size, low, high):
    model = ResNet(image_size=image_size, num_classes=10, size=name)
    assert low < sum(p.numel() for p in model.parameters()) < high


def test_blocks_start_as_their_shortcuts():
    model = make()
    last_norms = [
        m.norm3 if isinstance(m, Bottleneck) else m.norm2
        for m in model.modules()
        if isinstance(m, BasicBlock | Bottleneck)
    ]
    assert len(last_norms) == 3
    assert all((norm.weight == 0).all() for norm in last_norms)
    images = torch.randn(2, 8, 6, 6).relu()
    assert torch.equal(model.stages[0][0](images), images)


def test_with_group_norm_an_image_does_not_see_its_batch():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 12, 12)
    group, batch = make(norm="group").train(), make(norm="batch").train()
    torch.testing.assert_close(group(images)[:1], group(images[:1]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(batch(images)[:1], batch(images[:1]), atol=1e-3)
    assert all(norm.num_channels // norm.num_groups >= 8 for norm in group.modules() if isinstance(norm, nn.GroupNorm))


def test_no_classes_give_the_pooled_vector():
    model, images = make(num_classes=0).eval(), torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(model(images), model.forward_features(images).mean((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "resnet19"}, "unknown ResNet size 'resnet19'; use one of micro, tiny, .* or a ResNetShape"),
        ({"norm": "layer"}, "unknown norm 'layer'; use batch or group"),
        ({"stem": "5x5"}, "unknown stem '5x5'; use 3x3 .* or 7x7"),
        ({"in_channels": 0}, "in_channels 1 or more, got 7 and 0"),
        ({"image_size": 1}, "image_size 1 is too small: .* use 2 pixels or more"),
        ({"image_size": (12, 4), "stem": "7x7"}, "is too small: stem 7x7 .* use 8 pixels or more, the 3x3 stem"),
        ({"size": ResNetShape([1], [12]), "norm": "group"}, "multiples of 8 .* got 12"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (([1, 1], [8]), "same length"),
        (([0], [8]), "1 or more"),
        (([], []), "same length"),
        (([1], [8], "wide"), "unknown block 'wide'; use one of basic, bottleneck"),
    ],
)
def test_bad_shapes_are_refused_with_what_is_allowed(shape, message):
    with pytest.raises(ValueError, match=message):
        ResNetShape(*shape)
