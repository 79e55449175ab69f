import pytest
import timm
import torch

from vitlab.models import TimmModel, ViT

SMALL = {"depth": 3, "num_classes": 11}
# name, options: together class token or none, averages of both kinds, registers, a table without class token's row,
# no bias, query norm, layer scale, CLIP's norm before the blocks, images that are not square.
EQUAL = [
    ("vit_tiny_patch16_224", {"img_size": (32, 48), **SMALL}),
    ("deit_tiny_patch16_224", {"img_size": 48, "drop_path_rate": 0.2, "attn_drop_rate": 0.1, **SMALL}),
    ("deit_tiny_patch16_224", {"img_size": 32, "pos_drop_rate": 0.1, "proj_drop_rate": 0.1, **SMALL}),
    ("deit3_small_patch16_224", {"img_size": 48, **SMALL}),
    ("vit_small_patch14_dinov2", {"img_size": (42, 28), "depth": 3}),
    ("vit_small_patch14_reg4_dinov2", {"img_size": (28, 70), **SMALL}),
    ("vit_medium_patch16_gap_240", {"img_size": 32, **SMALL}),
    ("vit_medium_patch16_reg4_gap_256", {"img_size": (48, 32), **SMALL}),
    ("vit_tiny_patch16_224", {"img_size": 48, "global_pool": "avg", **SMALL}),
    ("vit_tiny_patch16_224", {"img_size": 32, "global_pool": "avg", "reg_tokens": 2, "in_chans": 5, **SMALL}),
    ("vit_tiny_patch16_224", {"img_size": 32, "qk_norm": True, "qkv_bias": False, "pos_embed": "none", **SMALL}),
    ("vit_base_patch32_clip_224", {"img_size": 64, "embed_dim": 192, "num_heads": 3, **SMALL}),
]
IDS = [f"{name}-{index}" for index, (name, _) in enumerate(EQUAL)]


def perturbed(name, **options):
    """A timm model in which the parts that start at zero, one or nearly so matter too."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def their_blocks(model, images):
    outputs = model.forward_intermediates(
        images, output_fmt="NLC", intermediates_only=True, return_prefix_tokens=model.num_prefix_tokens > 0
    )
    return [torch.cat(output[::-1], dim=1) if isinstance(output, tuple) else output for output in outputs]


@pytest.mark.parametrize(("name", "options"), EQUAL, ids=IDS)
def test_from_timm_equals_timm_in_logits_and_every_block(name, options):
    theirs = perturbed(name, **options)
    ours = ViT.from_timm(theirs)
    images = torch.randn(2, options.get("in_chans", 3), *theirs.patch_embed.img_size)
    with torch.no_grad():
        result = ours.forward_intermediates(images)
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.logits, theirs(images), atol=1e-5, rtol=1e-5)
        for block, expected in zip(result.blocks, their_blocks(theirs, images), strict=True):
            torch.testing.assert_close(block, expected, atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_from_timm_gives_the_same_gradients():
    theirs = perturbed("vit_tiny_patch16_224", img_size=32, **SMALL)
    ours = ViT.from_timm(theirs)
    images = torch.randn(2, 3, 32, 32)
    for model in (ours, theirs):
        model(images).square().sum().backward()
    mine, yours = ours.blocks[0].attention.qkv.weight.grad, theirs.blocks[0].attn.qkv.weight.grad
    torch.testing.assert_close(mine, yours, atol=1e-4, rtol=1e-4)


def test_from_timm_keeps_the_mode_and_does_not_share_memory():
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, **SMALL).train()
    ours = ViT.from_timm(theirs)
    assert ours.training
    before = theirs.head.weight.clone()
    with torch.no_grad():
        ours.head.classifier.weight.add_(1)
    assert torch.equal(theirs.head.weight, before)


def test_from_timm_also_takes_images_of_another_size_as_timm_does():
    theirs = perturbed("vit_tiny_patch16_224", img_size=48, dynamic_img_size=True, **SMALL)
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(ViT.from_timm(theirs)(images), theirs(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_base_patch16_siglip_224", {}, "global_pool 'map'"),
        ("vit_tiny_patch16_224", {"global_pool": "max"}, "global_pool 'max'"),
        ("vit_base_patch32_clip_quickgelu_224", {}, "activation QuickGELU"),
        ("vit_base_patch16_rpn_224", {}, "blocks made of ResPostBlock"),
        ("vit_tiny_patch16_224", {"drop_rate": 0.1}, "dropout before the classifier"),
        ("vit_tiny_patch16_224", {"pos_drop_rate": 0.1}, "different dropout rates"),
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.1}, "patch dropout"),
        ("vit_tiny_patch16_224", {"proj_bias": False}, "linear layers without bias"),
        ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm"}, "a norm other than LayerNorm"),
        ("vit_tiny_patch16_224", {"act_layer": "gelu_tanh"}, "activation GELUTanh"),
        ("vit_tiny_patch16_224", {"final_norm": False}, "no final layer norm"),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True}, "a norm inside attention or MLP"),
        ("vit_tiny_patch16_224", {"attn_layer": "diff"}, "DiffAttention"),
        ("vit_tiny_patch16_224", {"pool_include_prefix": True, "global_pool": "avg"}, "prefix tokens too"),
        ("deit_tiny_distilled_patch16_224", {}, "plain VisionTransformer, got .*VisionTransformerDistilled"),
        ("resnet18", None, "plain VisionTransformer, got .*ResNet"),
    ],
)
def test_what_vitlab_lacks_is_refused_by_name(name, options, message):
    if options is not None:
        options = {"depth": 2, "embed_dim": 48, "num_heads": 4, **options}
    model = timm.create_model(name, **options or {})
    with pytest.raises(ValueError, match=message):
        ViT.from_timm(model)


def test_a_wrapped_model_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"got vitlab.models.timm_model.TimmModel"):
        ViT.from_timm(TimmModel("vit_tiny_patch16_224", 32, 7, depth=1))
