"""The Vision Transformer: tokenizer, position, a stack of blocks, head (Dosovitskiy et al., arXiv 2010.11929).

Every part is an argument, so that what is built into the model is the user's choice; from_timm makes the same model
from timm's weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitlab.attention import Grid, LearnedPosition, Position, SelfAttention
from vitlab.models.blocks import Block
from vitlab.models.heads import ClassifierHead, Head
from vitlab.models.mixed_sizes import embed_mixed_sizes
from vitlab.models.timm_weights import copy_weights, read_settings
from vitlab.models.tokenizers import PatchTokenizer, Tokenizer


@dataclass
class ViTShape:
    """The numbers that make a ViT small or large.

    Args:
        dim: Width of a token, a multiple of num_heads.
        depth: Blocks, 1 or more.
        num_heads: Heads of each block's attention.
        mlp_dim: Width inside each block's MLP; 4 * dim in the paper.
        num_register_tokens: Spare tokens without a place in the image (Darcet et al., arXiv 2309.16588).
        layer_scale: Start of each block's LayerScale gains, such as 1e-5 (CaiT, arXiv 2103.17239); null: none.
        pre_norm: Whether tokens are layer-normalized before the first block too (CLIP).
        dropout: Share of the numbers dropped after positions and linear layers in training, 0 to below 1.
        drop_path: Chance that an image skips a branch of the last block in training, 0 to below 1; earlier blocks in
            proportion to their depth (Huang et al., arXiv 1603.09382).
        recompute: In training, keep only what goes into each block and compute the rest again in the backward pass: the
            same numbers, a fraction of the memory, about a third more time (Chen et al., arXiv 1604.06174).

    Raises:
        ValueError: A number is out of range.
    """

    dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    num_register_tokens: int = 0
    layer_scale: float | None = None
    pre_norm: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    recompute: bool = False

    def __post_init__(self) -> None:
        for name, least in {"dim": 1, "depth": 1, "num_heads": 1, "mlp_dim": 1, "num_register_tokens": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


SIZES = {
    "micro": ViTShape(dim=48, depth=3, num_heads=4, mlp_dim=96),  # 16 px on a laptop
    "pico": ViTShape(dim=128, depth=6, num_heads=4, mlp_dim=256),  # 32 px on a CPU
    "compact": ViTShape(dim=384, depth=7, num_heads=12, mlp_dim=384),  # 32 px on a GPU: the public ViT-CIFAR's shape
    "tiny": ViTShape(dim=192, depth=12, num_heads=3, mlp_dim=768),  # arXiv 2012.12877, table 1
    "small": ViTShape(dim=384, depth=12, num_heads=6, mlp_dim=1536),  # arXiv 2012.12877, table 1
    "base": ViTShape(dim=768, depth=12, num_heads=12, mlp_dim=3072),  # arXiv 2010.11929, table 1
    "large": ViTShape(dim=1024, depth=24, num_heads=16, mlp_dim=4096),  # arXiv 2010.11929, table 1
}


@dataclass(frozen=True)
class Intermediates:
    """What a ViT computed on the way to its logits.

    Args:
        grid: The layout of the tokens.
        tokens: What the first block saw, (batch, tokens, dim).
        blocks: What each block gave, (batch, tokens, dim) each.
        pooled: What the classifier saw, (batch, dim), or a vector for each label: (batch, labels, dim).
        logits: As the head gives them, (batch, classes) for one label.
    """

    grid: Grid
    tokens: Tensor
    blocks: list[Tensor]
    pooled: Tensor
    logits: Tensor


class ViT(nn.Module):
    """Vision Transformer whose tokenizer, position, attention and head are choices.

    Args:
        image_size: Side of the images in pixels, or [height, width]; other sizes may still come at run time.
        num_classes: Classes, 1 or more; 0 gives the pooled vector instead of logits.
        in_channels: Channels of an image: 3 for RGB, 1 for gray.
        patch_size: Side of a patch in pixels; must divide image_size.
        size: A name from the size table (micro, pico, compact, tiny, small, base, large), or a ViTShape.
        tokenizer: How an image becomes tokens; called with (in_channels, dim, patch_size).
        position: Where tokens sit, added before the first block; called with (dim, grid).
        attention: The blocks' self-attention; called with (dim, num_heads). Each block gets its own copy of every part.
        head: What becomes of the tokens: one label, a label for each pixel, or a sequence; called with (dim,
            num_classes, patch_size).

    Shape: images (batch, in_channels, height, width), or a list of images of different sizes, to logits (batch,
        classes), or of the head's own shape.

    Raises:
        ValueError: An unknown size, a patch_size that does not divide image_size, or num_heads dim.

    Source: Dosovitskiy et al., arXiv 2010.11929. Linear layers start Xavier uniform with zero bias, as in its JAX code
    (and big_vision), with query, key and value taken as one layer (as in torch.nn.MultiheadAttention).
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        num_classes: int = 1000,
        in_channels: int = 3,
        patch_size: int = 16,
        size: str | ViTShape = "small",
        tokenizer: Callable[[int, int, int], Tokenizer] = PatchTokenizer,
        position: Callable[[int, Grid], Position] = LearnedPosition,
        attention: Callable[[int, int], SelfAttention] = SelfAttention,
        head: Callable[[int, int, int], Head] = ClassifierHead,
    ) -> None:
        super().__init__()
        shape = _shape_of(size)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.head = head(shape.dim, num_classes, patch_size)
        self.num_prefix_tokens = self.head.num_class_tokens + shape.num_register_tokens
        self.tokenizer = tokenizer(in_channels, shape.dim, patch_size)
        self.class_token = _tokens_parameter(self.head.num_class_tokens, shape.dim)
        self.register_tokens = _tokens_parameter(shape.num_register_tokens, shape.dim)
        self.position = position(shape.dim, self._grid(height, width))
        if not self.position.acts_on_tokens_only:
            raise ValueError(
                f"{type(self.position).__name__} is a relative position, which belongs into each block: give it to "
                "attention (attention.init_args.position), not to the ViT's position"
            )
        self.recompute = shape.recompute
        self.dropout = nn.Dropout(shape.dropout)
        self.pre_norm = nn.LayerNorm(shape.dim, eps=1e-6) if shape.pre_norm else nn.Identity()
        drop_paths = [shape.drop_path * index / max(1, shape.depth - 1) for index in range(shape.depth)]
        self.blocks = nn.ModuleList(
            Block(
                shape.dim,
                _own_copy(attention(shape.dim, shape.num_heads)),
                shape.mlp_dim,
                shape.layer_scale,
                shape.dropout,
                drop_path,
            )
            for drop_path in drop_paths
        )
        for block in self.blocks:
            block.attention.set_grid(self._grid(height, width))
        if self.head.num_class_tokens and not self.blocks[0].attention.pattern.prefix_sees_patches:
            raise ValueError(
                f"the class token comes first, and {type(self.blocks[0].attention.pattern).__name__} hides all patches "
                "from it; use a head that reads the patches, such as ClassifierHead with pooling mean"
            )
        self.apply(_initialize)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Classify images.

        Args:
            images: (batch, in_channels, height, width); or a list of (in_channels, height, width) of different sizes,
                each of which gives what it would give alone.

        Shape: (batch, classes), or what the head gives.
        """
        tokens, grid, visible = self._embed(images)
        mask = None if visible is None else visible[:, None, None]
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if recompute:
                tokens = checkpoint(block, tokens, grid, mask, use_reentrant=False)
            else:
                tokens = block(tokens, grid, mask)
        return self.head(tokens, grid, visible)

    def forward_intermediates(self, images: Tensor | Sequence[Tensor]) -> Intermediates:
        """Classify images and keep what each part gave.

        Shape: images as in forward; results as in Intermediates.
        """
        tokens, grid, visible = self._embed(images)
        mask = None if visible is None else visible[:, None, None]
        outputs: list[Tensor] = []
        for block in self.blocks:
            outputs.append(block(outputs[-1] if outputs else tokens, grid, mask))
        pooled, logits = self.head.pool(outputs[-1], grid, visible), self.head(outputs[-1], grid, visible)
        return Intermediates(grid, tokens, outputs, pooled, logits)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that say where or which, and should not be pulled to zero."""
        tokens = {name for name in ("class_token", "register_tokens") if getattr(self, name) is not None}
        places = {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if isinstance(module, Position)
            for name, _ in module.named_parameters()
        }
        return tokens | places | {f"head.{name}" for name in self.head.no_weight_decay()}

    def input_and_output_layers(self) -> set[str]:
        """Return the names of the parameters of the first layer and the last, which are no hidden layers."""
        outer = ("tokenizer.", "head.classifier.")
        return {name for name, _ in self.named_parameters() if name.startswith(outer)}

    @classmethod
    def from_timm(cls, model: nn.Module) -> "ViT":
        """Return a ViT of the same shape with a timm VisionTransformer's weights: same logits, same blocks.

        Args:
            model: What timm.create_model gave for a plain ViT, DeiT, DINO, CLIP, ... name.

        Raises:
            ValueError: The model has something that this ViT lacks (named in the message).
        """
        settings = read_settings(model)
        vit = cls(**settings | {"size": ViTShape(**settings["size"])})
        copy_weights(model, vit)
        return vit

    def _embed(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, Grid, Tensor | None]:
        """Return tokens, their layout, and which of them are no padding (None: all)."""
        if isinstance(images, Tensor):
            return *self._embed_one_size(images), None
        return embed_mixed_sizes(images, self._embed_one_size)

    def _embed_one_size(self, images: Tensor) -> tuple[Tensor, Grid]:
        grid = self._grid(*images.shape[-2:])
        tokens = self.tokenizer(images)  # (batch, tokens, dim)
        prefix = [
            token.expand(len(images), -1, -1) for token in (self.class_token, self.register_tokens) if token is not None
        ]
        if prefix:
            tokens = torch.cat([*prefix, tokens], dim=1)
        return self.pre_norm(self.dropout(self.position.on_tokens(tokens, grid))), grid

    def _grid(self, height: int, width: int) -> Grid:
        return replace(self.tokenizer.grid(height, width), num_prefix_tokens=self.num_prefix_tokens)


def _shape_of(size: str | ViTShape) -> ViTShape:
    if isinstance(size, ViTShape):
        return size
    if size not in SIZES:
        raise ValueError(f"unknown ViT size {size!r}; use one of {', '.join(SIZES)}, or a ViTShape")
    return SIZES[size]


def _tokens_parameter(count: int, dim: int) -> nn.Parameter | None:
    if not count:
        return None
    return nn.Parameter(
        torch.empty(1, count, dim).normal_(std=1e-6)
    )  # as timm: all but zero, positions tell them apart


def _own_copy(attention: SelfAttention) -> SelfAttention:
    """Return a copy whose parts no other block shares.

    A factory with ready-made parts (functools.partial, or a config) hands the same score or position to every block,
    which would tie the blocks' weights without a word.
    """
    attention = copy.deepcopy(attention)
    for module in attention.modules():
        if hasattr(module, "reset_parameters"):  # or the copies would all start alike
            module.reset_parameters()
    return attention


def _initialize(module: nn.Module) -> None:
    """Start linear layers so that variance neither grows nor shrinks; convolutions and norms keep PyTorch's start."""
    if isinstance(module, nn.Linear):
        # timm's fixed deviation of 0.02 suits a dim of about 400; at 48 it cost 12 points on the generated data set.
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
