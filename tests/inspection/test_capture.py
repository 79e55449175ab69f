import math
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F

from vitlab.attention import (
    ALiBi2D,
    BlockedWindows,
    Causal,
    Cosine,
    GraphEdges,
    Grid,
    KernelFeatures,
    Proportional,
    RoPE2D,
    SelfAttention,
    Sigmoid,
    SoftmaxWithOne,
    Window2D,
    windows,
)
from vitlab.inspection import capture, class_relevance
from vitlab.inspection.kernel_call import KernelCall, Selection
from vitlab.models import RNN, ClassifierHead, ResNet, TimmModel, ViT, ViTShape

SHAPE = ViTShape(dim=20, depth=3, num_heads=5, mlp_dim=13, num_register_tokens=2)
# Small where the name allows; non-square where the model does.
TIMM = {
    "vit_tiny_patch16_224": {"img_size": (48, 80)},
    "deit_tiny_distilled_patch16_224": {"img_size": (48, 80)},
    "deit3_small_patch16_224": {"img_size": (48, 80), "depth": 3},
    "vit_small_patch14_reg4_dinov2": {"img_size": (42, 70), "depth": 3},
    "vit_small_patch16_dinov3": {"img_size": (48, 80), "depth": 3},
    "vit_base_patch32_clip_224": {"img_size": (96, 160), "depth": 2},
    "vit_base_patch16_siglip_224": {"img_size": (48, 80), "depth": 2},
    "eva02_tiny_patch14_224": {"img_size": (42, 70), "depth": 3},
    "beit_base_patch16_224": {"img_size": (48, 80), "depth": 2},
    "beitv2_base_patch16_224": {"img_size": (48, 80), "depth": 2},
    "vit_small_patch16_rope_mixed_224": {"img_size": (48, 80), "depth": 3},
    "vit_relpos_small_patch16_224": {"img_size": (48, 80), "depth": 3},
    "swin_tiny_patch4_window7_224": {"img_size": (56, 84), "depths": (2, 2), "num_heads": (3, 6)},
    "swinv2_tiny_window8_256": {"img_size": (64, 96), "depths": (2, 2), "num_heads": (3, 6)},
}


def make(**options):
    torch.manual_seed(0)
    options = {"head": partial(ClassifierHead, pooling="mean"), **options}
    return ViT(image_size=[12, 20], num_classes=7, in_channels=2, patch_size=4, size=SHAPE, **options).eval()


def images_of(batch=3):
    return torch.randn(batch, 2, 12, 20)


def state(model):
    """All that a capture might leave behind."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    fused = [getattr(module, "fused_attn", None) for module in model.modules()]
    return hooks, fused, model.training, [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("name", TIMM)
def test_weights_are_those_of_timm_with_fused_attention_off_and_nothing_changes(name):
    torch.manual_seed(0)
    model = timm.create_model(name, **TIMM[name]).eval()
    images = torch.randn(2, 3, *TIMM[name]["img_size"])
    before = state(model)
    with torch.no_grad():
        plain = model(images)
        with capture(model) as record:
            captured = model(images)
        assert torch.equal(captured, plain), "the capture changed the logits"
        assert state(model) == before
        assert torch.equal(model(images), plain)
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        with capture(model) as unfused:
            model(images)
    assert len(record.weights) == len(unfused.weights) >= 2
    for one, other in zip(record.weights, unfused.weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.sum(-1), torch.ones(one.shape[:-1]))
    if "swin" not in name:
        assert all(info.grid.num_patches == 15 for info in record.layers)
        assert all(info.grid.num_prefix_tokens == model.num_prefix_tokens for info in record.layers)


def test_weights_equal_those_of_hooks_inside_timms_plain_attention():
    """A second witness that shares no code with capture: what the dropout after softmax is given."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=(48, 80), depth=3).eval()
    images, seen = torch.randn(2, 3, 48, 80), []
    with torch.no_grad(), capture(model) as record:
        model(images)
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    with torch.no_grad():
        model(images)
    for ours, theirs in zip(record.weights, seen, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


PARTS = [
    {},
    {"qk_norm": True, "position": RoPE2D},
    {"position": ALiBi2D, "pattern": Window2D(3)},
    {"pattern": BlockedWindows(2, 1)},
    {"pattern": Causal()},
    {"score": Cosine},
    {"normalizer": SoftmaxWithOne()},
    {"normalizer": Sigmoid()},
    {"score": KernelFeatures, "normalizer": Proportional()},
]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("tile", [1, 8])
def test_every_way_of_computing_shows_its_weights(parts, tile, monkeypatch):
    monkeypatch.setattr(windows, "TILE_2D", tile)
    model, images = make(attention=partial(SelfAttention, **parts)), images_of()
    kept = model.forward_intermediates(images)
    inputs = [kept.tokens, *kept.blocks[:-1]]
    with capture(model) as record:
        logits = model(images)
    assert torch.equal(logits, kept.logits)
    assert [info.name for info in record.layers] == [f"blocks.{index}.attention" for index in range(3)]
    assert all(info.grid == Grid(3, 5, 2) and info.num_heads == 5 for info in record.layers)
    for block, tokens, weights in zip(model.blocks, inputs, record.weights, strict=True):
        expected = block.attention.weights(block.attention_norm(tokens), kept.grid)
        torch.testing.assert_close(weights, expected, atol=1e-6, rtol=1e-5)


def test_a_residual_network_with_attention_and_a_wrapped_timm_model_show_theirs():
    resnet = ResNet(image_size=16, size="micro", attention=partial(SelfAttention, num_heads=5)).eval()
    with capture(resnet) as record:
        resnet(torch.randn(2, 3, 16, 16))
    assert [tuple(weights.shape) for weights in record.weights] == [(2, 5, 16, 16)]
    assert record.layers[0].grid == Grid(4, 4)
    wrapped = TimmModel(image_size=32, num_classes=5, name="vit_tiny_patch16_224").eval()
    with capture(wrapped) as record:
        wrapped(torch.randn(2, 3, 32, 32))
    assert len(record.weights) == 12
    assert record.layers[0].grid == Grid(2, 2, 1)


def test_layers_heads_and_queries_can_be_chosen_and_stored_small():
    model, images = make(), images_of()
    with capture(model) as full:
        model(images)
    with capture(model, layers=[2, 0], heads=[4, 1], queries=[0, 3, 7], dtype=torch.float16, device="cpu") as part:
        model(images)
    assert [info.name for info in part.layers] == ["blocks.0.attention", "blocks.2.attention"]
    for kept, layer in zip(part.weights, (0, 2), strict=True):
        assert kept.dtype == torch.float16
        expected = full.weights[layer][:, [4, 1]][:, :, [0, 3, 7]]
        torch.testing.assert_close(kept.float(), expected, atol=1e-3, rtol=1e-2)
    assert part.layers[0].num_heads == 5


def test_several_runs_are_joined_and_intermediates_kept():
    model, images = make(), images_of(5)
    with capture(model, intermediates=["blocks.1", "tokenizer"]) as record:
        model(images[:2])
        model(images[2:])
    with capture(model) as once:
        model(images)
    for one, other in zip(record.weights, once.weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(record.intermediates["blocks.1"], model.forward_intermediates(images[2:]).blocks[1])
    assert record.intermediates["tokenizer"].shape == (3, 15, 20)


@pytest.mark.parametrize("parts", PARTS)
def test_gradients_with_respect_to_the_weights_are_those_of_finite_differences(parts):
    model, images = make(attention=partial(SelfAttention, **parts)).double(), images_of(1).double()
    with capture(model, differentiable=True) as record:
        logits = model(images)
        gradients = torch.autograd.grad(logits[0, 3], record.weights)
    torch.testing.assert_close(logits, model(images), atol=1e-6, rtol=1e-5)
    layer, place, step = 1, (0, 2, 6, 4), 1e-4
    changed = record.weights[layer].detach().clone()
    changed[place] += step
    block, kept = model.blocks[layer], model.forward_intermediates(images)
    inputs = block.attention_norm(kept.blocks[layer - 1])
    tokens = kept.blocks[layer - 1] + block.attention.gather_by(changed, inputs, kept.grid)
    tokens = tokens + block.mlp(block.mlp_norm(tokens))
    for later in model.blocks[layer + 1 :]:
        tokens = later(tokens, kept.grid)
    difference = (model.head(tokens, kept.grid) - kept.logits)[0, 3] / step
    torch.testing.assert_close(gradients[layer][place], difference, atol=1e-5, rtol=1e-2)

    def forward(self, images):
        heads = images.flatten(2)[:, None]
        return F.scaled_dot_product_attention(heads, heads, heads)


def test_weights_that_do_not_give_the_output_are_refused():
    heads = [torch.randn(1, 1, 2, 6) for _ in range(3)]
    call, output = KernelCall.of(*heads), F.scaled_dot_product_attention(*heads)
    assert call.weights(Selection(), output, "attn").shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"recomputed for layer attn times its values miss its output by .*not known"):
        call.weights(Selection(), output + 0.01, "attn")


def test_a_model_with_dropout_running_is_refused():
    model = make(attention=partial(SelfAttention, dropout=0.5)).train()
    with pytest.raises(ValueError, match=r"drops 50% of its weights at random.*call model.eval\(\)"), capture(model):
        model(images_of())
    assert state(model) == state(make(attention=partial(SelfAttention, dropout=0.5)).train())


@pytest.mark.parametrize(
    "model",
    [
        ResNet(image_size=16, size="micro"),
        RNN(image_size=16, patch_size=4, size="micro"),
        timm.create_model("xcit_nano_12_p16_224", img_size=32),
        timm.create_model("resnet18"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_without_attention_between_tokens_is_refused(model):
    with (
        pytest.raises(ValueError, match=f"no attention was recorded from {type(model).__name__}"),
        capture(model.eval()),
    ):
        model(torch.randn(2, 3, 32, 32))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [3]}, "no attention layer 3; use 0 to 2"),
        ({"layers": [-1]}, "no attention layer -1; use 0 to 2"),
        ({"heads": [5]}, r"layer blocks.0.attention has no head 5; use 0 to 4"),
        ({"queries": [17]}, "has no query 17; use 0 to 16"),
        ({"intermediates": ["blocks.9"]}, "no module 'blocks.9'"),
    ],
)
def test_what_is_not_there_is_refused_and_hooks_are_taken_off(options, message):
    model = make()
    with pytest.raises(ValueError, match=message), capture(model, **options):
        model(images_of())
    assert state(model) == state(make())


def test_an_error_inside_the_block_comes_through_and_hooks_are_taken_off():
    model = make()
    with pytest.raises(RuntimeError, match="channels"), capture(model):
        model(torch.randn(3, 3, 12, 20))
    assert state(model) == state(make())


def test_the_recorded_tensors_are_all_that_is_kept():
    model, images = make(), images_of()
    with torch.no_grad(), capture(model, layers=[1], queries=[0]) as record:
        model(images)
    (weights,) = record.weights
    assert weights.shape == (3, 5, 1, 17)
    assert weights.untyped_storage().nbytes() == math.prod(weights.shape) * 4


def test_a_grid_given_by_name_is_understood():
    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = SelfAttention(20, 5)

        def forward(self, tokens):
            return self.attention(tokens, grid=Grid(3, 5))

    model, tokens = Named(), torch.randn(2, 15, 20)
    with capture(model) as record:
        model(tokens)
    torch.testing.assert_close(record.weights[0], model.attention.weights(tokens, Grid(3, 5)))


def test_gradients_stay_finite_where_a_token_sees_nobody():
    graph = GraphEdges(15, [(0, 1), (2, 3)], self_loops=False)
    model = make(attention=partial(SelfAttention, pattern=graph, position=ALiBi2D))
    relevance, _ = class_relevance(model, images_of(), torch.tensor([0, 1, 2]))
    assert torch.isfinite(relevance).all()


@pytest.mark.parametrize("parts", [{}, {"normalizer": Sigmoid()}])
def test_gradients_of_weights_that_are_dropped_are_refused(parts):
    model = make(attention=partial(SelfAttention, dropout=0.5, **parts)).train()
    with pytest.raises(ValueError, match="drops 50% of its weights"):
        class_relevance(model, images_of(), torch.tensor([0, 1, 2]))
