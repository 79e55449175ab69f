import sys

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.inspection import grad_cam, integrated_gradients, occlusion
from vitlab.models import RNN, ClassifierHead, ResNet, ResNetShape, ViT, ViTShape

pytest.importorskip("captum")
HEIGHT, WIDTH, CLASSES, PREFIX = 12, 20, 7, 2
SHAPE = ViTShape(dim=12, depth=2, num_heads=3, mlp_dim=24, num_register_tokens=PREFIX)
IMAGES = torch.randn(5, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 6, 3, 2, 1])


class Quadrant(nn.Module):
    """Class 4 is how bright the top right quadrant is; no other class looks at anything."""

    def __init__(self, as_tokens=False):
        super().__init__()
        self.num_prefix_tokens = PREFIX if as_tokens else 0
        self.window = nn.Identity()

    def forward(self, images):
        inside = torch.zeros_like(images)
        inside[:, :, : HEIGHT // 2, WIDTH // 2 :] = images[:, :, : HEIGHT // 2, WIDTH // 2 :]
        if self.num_prefix_tokens:
            tokens = inside.flatten(2).transpose(1, 2)
            inside = torch.cat([tokens.new_full((len(tokens), PREFIX, 3), 100.0), tokens], dim=1)
        seen = self.window(inside)
        brightness = seen.flatten(1).sum(1) if not self.num_prefix_tokens else seen[:, PREFIX:].flatten(1).sum(1)
        return F.one_hot(torch.tensor(4), CLASSES) * brightness[:, None]


def is_only_in_the_quadrant(attribution):
    inside = attribution[:, : HEIGHT // 2, WIDTH // 2 :]
    return inside.count_nonzero() == attribution.count_nonzero() > 0


@pytest.mark.parametrize("as_tokens", [False, True])
def test_grad_cam_of_a_model_that_looks_at_a_quadrant_is_the_quadrant(as_tokens):
    cam = grad_cam(Quadrant(as_tokens), IMAGES, target=4, layer="window")
    expected = torch.zeros(5, HEIGHT, WIDTH)
    # Gradients are 1 in every place of the map, so each channel weighs the same.
    expected[:, : HEIGHT // 2, WIDTH // 2 :] = IMAGES.sum(1)[:, : HEIGHT // 2, WIDTH // 2 :].relu()
    torch.testing.assert_close(cam, expected)


def test_integrated_gradients_and_occlusion_stay_in_the_quadrant():
    assert is_only_in_the_quadrant(integrated_gradients(Quadrant(), IMAGES, 4, steps=3))
    assert is_only_in_the_quadrant(occlusion(Quadrant(), IMAGES, 4, patch_size=2))


def test_grad_cam_equals_captums_own_on_a_resnet():
    from captum.attr import LayerGradCam

    model = ResNet(num_classes=CLASSES, size=ResNetShape([1, 2], [8, 16])).eval()
    raw = LayerGradCam(model, model.stages[1][1]).attribute(IMAGES, TARGETS, relu_attributions=True)
    expected = F.interpolate(raw, (HEIGHT, WIDTH), mode="bilinear")[:, 0]
    cam = grad_cam(model, IMAGES, TARGETS)
    assert cam.shape == (5, HEIGHT, WIDTH)
    assert cam.any()
    torch.testing.assert_close(cam, expected.detach())


def small_vit(**options):
    torch.manual_seed(0)
    return ViT((HEIGHT, WIDTH), CLASSES, patch_size=4, size=SHAPE, **options).eval()


def test_grad_cam_of_a_vit_weighs_patches_and_leaves_registers_out():
    model = small_vit(head=lambda dim, classes, patch: ClassifierHead(dim, classes, patch, pooling="mean"))
    steps = model.forward_intermediates(IMAGES)
    logits = steps.logits[torch.arange(5), TARGETS].sum()
    (gradients,) = torch.autograd.grad(logits, steps.blocks[-1])
    patches, gradients = steps.blocks[-1][:, PREFIX:], gradients[:, PREFIX:]
    cam = (gradients.mean(1, keepdim=True) * patches).sum(-1).relu().unflatten(1, (1, 3, 5))
    expected = F.interpolate(cam, (HEIGHT, WIDTH), mode="bilinear")[:, 0]
    torch.testing.assert_close(grad_cam(model, IMAGES, TARGETS), expected.detach())


def test_where_only_the_class_token_is_read_the_map_comes_from_the_last_blocks_norm():
    model = small_vit()
    expected = grad_cam(model, IMAGES, TARGETS, layer="blocks.1.attention_norm")
    assert expected.any()
    assert torch.equal(grad_cam(model, IMAGES, TARGETS), expected)
    with pytest.raises(ValueError, match=r"the logit does not depend on what layer 'blocks\.1' gives"):
        grad_cam(model, IMAGES, TARGETS, layer="blocks.1")


def test_a_layer_that_no_logit_is_computed_from_is_refused():
    class Unused(Quadrant):
        def forward(self, images):
            self.window(images * 2)
            return images.mean((2, 3))

    with pytest.raises(ValueError, match="the logit does not depend on what layer 'window' gives"):
        grad_cam(Unused(), IMAGES, 2, layer="window")


def test_a_timm_vit_with_class_token_and_registers_gives_the_map_of_ours():
    theirs = VisionTransformer(
        (HEIGHT, WIDTH), 4, num_classes=CLASSES, embed_dim=12, depth=2, num_heads=3, reg_tokens=PREFIX
    ).eval()
    ours = grad_cam(ViT.from_timm(theirs).eval(), IMAGES, TARGETS)
    torch.testing.assert_close(grad_cam(theirs, IMAGES, TARGETS), ours)
    assert ours.any()


def test_integrated_gradients_share_out_the_rise_of_the_logit():
    model = small_vit()
    baseline = torch.full_like(IMAGES, 0.1)
    shares = integrated_gradients(model, IMAGES, TARGETS, baseline, steps=60)
    with torch.no_grad():
        rise = (model(IMAGES) - model(baseline))[torch.arange(5), TARGETS]
    torch.testing.assert_close(shares.sum((1, 2)).float(), rise, atol=2e-3, rtol=2e-2)


def test_of_a_linear_model_both_give_weight_times_pixel():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * HEIGHT * WIDTH, CLASSES))
    expected = (model[1].weight[TARGETS].detach().unflatten(1, IMAGES.shape[1:]) * IMAGES).sum(1)
    shares = integrated_gradients(model, IMAGES, TARGETS, steps=2).float()
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=1e-4)
    falls = occlusion(model, IMAGES, TARGETS, patch_size=4)
    squares = F.avg_pool2d(expected, 4) * 16
    torch.testing.assert_close(falls, squares.repeat_interleave(4, 1).repeat_interleave(4, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "attribute",
    [grad_cam, integrated_gradients, lambda *arguments: occlusion(*arguments, patch_size=4)],
)
def test_the_model_and_the_images_are_left_as_they_were(attribute):
    model = ResNet(num_classes=CLASSES, size=ResNetShape([1, 1], [8, 8])).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = IMAGES.clone()
    with torch.no_grad():
        attribution = attribute(model, images, 3)
    assert attribution.shape == (5, HEIGHT, WIDTH)
    assert not attribution.requires_grad
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.grad is None
    assert not images.requires_grad
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("attribute", [grad_cam, integrated_gradients, occlusion])
def test_a_missing_captum_is_named_with_what_installs_it(attribute, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    options = {"patch_size": 4} if attribute is occlusion else {}
    with pytest.raises(ImportError, match=r"pip install vitlab\[inspect\]"):
        attribute(Quadrant(), IMAGES, 4, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: grad_cam(model, IMAGES, 7), "target must be 0 to 6, got 7"),
        (lambda model: integrated_gradients(model, IMAGES, -1), "target must be 0 to 6, got -1"),
        (lambda model: grad_cam(model, IMAGES, TARGETS[:3]), "one for each of the 5 images, got shape"),
        (lambda model: grad_cam(model, IMAGES, 3, layer="blocks.9"), "ViT has no layer 'blocks.9'"),
        (lambda model: grad_cam(model, IMAGES, 3, layer="head"), "which has no places in the image"),
        (lambda model: grad_cam(model, IMAGES.byte(), 3), "floating-point numbers, got torch.uint8"),
        (lambda model: integrated_gradients(model, IMAGES, 3, steps=0), "steps must be 1 or more, got 0"),
        (lambda model: occlusion(model, IMAGES, 3, patch_size=13), "patch_size must be 1 to 12 .* got 13 and 13"),
        (lambda model: occlusion(model, IMAGES, 3, patch_size=4, stride=5), "stride 1 to patch_size, got 4 and 5"),
        (lambda model: grad_cam(model.tokenizer, IMAGES, 3), r"must give logits \(batch, classes\)"),
    ],
)
def test_what_cannot_be_asked_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(small_vit())


def test_a_recurrent_layer_is_refused_and_the_one_before_it_serves():
    model = RNN((HEIGHT, WIDTH), CLASSES, patch_size=4, size="micro")
    with pytest.raises(ValueError, match=r"layer 'layers' is recurrent .* such as tokenizer"):
        grad_cam(model, IMAGES, 3)
    assert grad_cam(model, IMAGES, 3, layer="tokenizer").shape == (5, HEIGHT, WIDTH)
