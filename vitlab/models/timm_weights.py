"""Weights from timm: read a VisionTransformer's settings, refuse in words what vitlab's ViT lacks, copy the rest.

timm (Wightman, https://github.com/huggingface/pytorch-image-models) holds most public ViT weights; only this file
knows its attribute names.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from vitlab.attention import LearnedPosition, NoPosition, SelfAttention
from vitlab.models.heads import ClassifierHead
from vitlab.models.tokenizers import PatchTokenizer


def read_settings(model: nn.Module) -> dict[str, Any]:
    """Return the arguments of a vitlab ViT that equals a timm VisionTransformer.

    Args:
        model: A timm VisionTransformer.

    Raises:
        ValueError: The model has something that vitlab's ViT lacks; the message lists all of it.
    """
    from timm.models.vision_transformer import VisionTransformer  # here, because importing timm takes seconds

    if type(model) is not VisionTransformer:
        raise ValueError(
            f"from_timm takes timm's plain VisionTransformer, got {type(model).__module__}.{type(model).__name__}; "
            "wrap any other timm model in TimmModel"
        )
    lacking = [*_lacking_outside_blocks(model), *_lacking_in_blocks(model)]
    if lacking:
        raise ValueError(f"vitlab's ViT cannot equal this timm model: {'; '.join(lacking)}. Use TimmModel instead")
    first = model.blocks[0]
    averages = model.global_pool == "avg"
    num_class_tokens = int(model.has_class_token)
    return {
        "image_size": tuple(model.patch_embed.img_size),
        "num_classes": model.num_classes,
        "in_channels": model.patch_embed.proj.in_channels,
        "patch_size": model.patch_embed.patch_size[0],
        "size": {
            "dim": model.embed_dim,
            "depth": len(model.blocks),
            "num_heads": first.attn.num_heads,
            "mlp_dim": first.mlp.fc1.out_features,
            # An average skips class token and registers alike, so the class token is one more register there.
            "num_register_tokens": model.num_reg_tokens + (num_class_tokens if averages else 0),
            "layer_scale": None if isinstance(first.ls1, nn.Identity) else 1.0,  # the copied gains replace it
            "pre_norm": not isinstance(model.norm_pre, nn.Identity),
            "dropout": model.pos_drop.p,
            "drop_path": _drop_paths(model)[-1],
        },
        "tokenizer": partial(PatchTokenizer, bias=model.patch_embed.proj.bias is not None),
        "position": NoPosition
        if model.pos_embed is None
        else partial(LearnedPosition, prefix=not model.no_embed_class),
        "attention": partial(
            SelfAttention,
            qkv_bias=first.attn.qkv.bias is not None,
            qk_norm=not isinstance(first.attn.q_norm, nn.Identity),
            dropout=first.attn.attn_drop.p,
        ),
        "head": partial(ClassifierHead, pooling=_pooling(model)),
    }


def copy_weights(model: nn.Module, vit: nn.Module) -> None:
    """Copy a timm VisionTransformer's weights into a vitlab ViT made from its settings.

    Args:
        model: A timm VisionTransformer.
        vit: A vitlab ViT made with read_settings(model).
    """
    weight = model.patch_embed.proj.weight
    vit.to(device=weight.device, dtype=weight.dtype).train(model.training)
    tokens = [token for token in (model.cls_token, model.reg_token) if token is not None]
    if vit.class_token is not None:
        vit.class_token.data.copy_(tokens.pop(0).data)
    if vit.register_tokens is not None:
        vit.register_tokens.data.copy_(torch.cat(tokens, dim=1).data)
    if model.pos_embed is not None:
        vit.position.table.data.copy_(model.pos_embed.data)
    pairs = [(model.patch_embed.proj, vit.tokenizer.projection), (model.head, vit.head.classifier)]
    pairs += [(model.norm_pre, vit.pre_norm), (_final_norm(model), vit.head.norm)]
    for theirs, ours in zip(model.blocks, vit.blocks, strict=True):
        pairs += [
            (theirs.norm1, ours.attention_norm),
            (theirs.attn.qkv, ours.attention.qkv),
            (theirs.attn.q_norm, ours.attention.query_norm),
            (theirs.attn.k_norm, ours.attention.key_norm),
            (theirs.attn.proj, ours.attention.projection),
            (theirs.norm2, ours.mlp_norm),
            (theirs.mlp.fc1, ours.mlp.expand),
            (theirs.mlp.fc2, ours.mlp.contract),
        ]
        if not isinstance(theirs.ls1, nn.Identity):
            ours.attention_branch.layer_scale.gain.data.copy_(theirs.ls1.gamma.data)
            ours.mlp_branch.layer_scale.gain.data.copy_(theirs.ls2.gamma.data)
    for theirs, ours in pairs:
        ours.load_state_dict(theirs.state_dict())
        if isinstance(ours, nn.LayerNorm):
            ours.eps = theirs.eps


def _lacking_outside_blocks(model: nn.Module) -> list[str]:
    """Name what surrounds the blocks in this model and has no counterpart here."""
    from timm.layers import PatchEmbed

    patches = model.patch_embed
    plain_patches = type(patches) is PatchEmbed and isinstance(patches.norm, nn.Identity)
    plain_patches = plain_patches and len(set(patches.patch_size)) == 1 and patches.img_size is not None
    norms = [norm for norm in (model.norm, model.fc_norm) if not isinstance(norm, nn.Identity)]
    checks = {
        f"patch embedding {type(patches).__name__}, which is not a plain one of square patches": plain_patches,
        "patches padded at the border": not patches.dynamic_img_pad,
        f"global_pool {model.global_pool!r}": model.global_pool in ("token", "avg") and model.attn_pool is None,
        "an average over prefix tokens too": model.global_pool == "token"
        or not getattr(model, "pool_include_prefix", False),
        "no final layer norm, or two": len(norms) == 1,
        "a final norm other than LayerNorm": all(_is_layer_norm(norm) for norm in norms),
        "a norm before the blocks other than LayerNorm": _is_layer_norm_or_identity(model.norm_pre),
        "patch dropout": isinstance(model.patch_drop, nn.Identity),
        "dropout before the classifier": model.head_drop.p == 0,
        "a head other than one linear layer": _is_plain_head(model.head),
    }
    return [problem for problem, fine in checks.items() if not fine]


def _lacking_in_blocks(model: nn.Module) -> list[str]:
    """Name what the blocks of this model have without a counterpart here."""
    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block

    blocks = list(model.blocks)
    odd = {type(block).__name__ for block in blocks if type(block) is not Block}
    odd |= {type(b.attn).__name__ for b in blocks if type(b) is Block and type(b.attn) is not Attention}
    odd |= {type(b.mlp).__name__ for b in blocks if type(b) is Block and type(b.mlp) is not Mlp}
    if odd:
        return [f"blocks made of {', '.join(sorted(odd))}"]
    norms = [norm for b in blocks for norm in (b.norm1, b.norm2)]
    qk_norms = [norm for b in blocks for norm in (b.attn.q_norm, b.attn.k_norm)]
    drops = {model.pos_drop.p} | {drop.p for b in blocks for drop in (b.attn.proj_drop, b.mlp.drop1, b.mlp.drop2)}
    linspace = torch.linspace(0, _drop_paths(model)[-1], len(blocks)).tolist()
    gates = [gate for b in blocks if (gate := getattr(b.attn, "gate", None)) is not None]
    attention_norms = [getattr(b.attn, "norm", nn.Identity()) for b in blocks]
    biases = [layer.bias for b in blocks for layer in (b.attn.proj, b.mlp.fc1, b.mlp.fc2)]
    checks = {
        "a norm other than LayerNorm": all(_is_layer_norm(norm) for norm in norms),
        "a query or key norm other than LayerNorm": all(_is_layer_norm_or_identity(norm) for norm in qk_norms),
        "a norm inside attention or MLP": all(
            isinstance(norm, nn.Identity) for norm in attention_norms + [b.mlp.norm for b in blocks]
        ),
        "gated attention": not gates,
        "heads that are not dim / num_heads wide": all(b.attn.qkv.out_features == 3 * model.embed_dim for b in blocks),
        "linear layers without bias": all(bias is not None for bias in biases),
        f"activation {type(blocks[0].mlp.act).__name__}": all(_is_exact_gelu(b.mlp.act) for b in blocks),
        "different dropout rates after positions and linear layers": len(drops) == 1,
        "drop path that does not rise linearly": torch.allclose(
            torch.tensor(linspace), torch.tensor(_drop_paths(model)), atol=1e-6
        ),
    }
    return [problem for problem, fine in checks.items() if not fine]


def _pooling(model: nn.Module) -> str:
    if model.global_pool == "token":
        return "class_token"
    return "mean" if isinstance(model.fc_norm, nn.Identity) else "mean_then_norm"


def _final_norm(model: nn.Module) -> nn.Module:
    return model.fc_norm if isinstance(model.norm, nn.Identity) else model.norm


def _drop_paths(model: nn.Module) -> list[float]:
    return [float(getattr(block.drop_path1, "drop_prob", 0.0)) for block in model.blocks]


def _is_layer_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) and module.weight is not None and module.bias is not None


def _is_layer_norm_or_identity(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or _is_layer_norm(module)


def _is_exact_gelu(module: nn.Module) -> bool:
    from timm.layers.activations import GELU

    return isinstance(module, nn.GELU | GELU) and getattr(module, "approximate", "none") == "none"


def _is_plain_head(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or (type(module) is nn.Linear and module.bias is not None)
