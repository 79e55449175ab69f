"""What the attention page holds: who looks at whom in each layer, rounded until it is small, exact enough to be seen.

Weights are kept as shares of their row's sum. A share on a patch becomes one of a few levels of sqrt(share / largest
of its row): a step is fine where shares are small and at most 1 / levels of the largest. Prefix tokens, which often
take most of a row, are kept apart, to 16 bits. What is left is deflated; as many levels are used as fit.
"""

from __future__ import annotations

import base64
import bisect
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitlab.attention import Grid
from vitlab.inspection.attention_maps import rollout
from vitlab.inspection.capture import LayerInfo, capture
from vitlab.inspection.model_maps import unwrapped

LEVELS = (255, 180, 127, 90, 63, 45, 31, 22, 15)
BUDGET_BYTES = 3_450_000  # of an image and a model, before base64 makes four bytes of three: 4.6 MB on the page
MAX_WEIGHTS = 64_000_000  # of an image and a model
_PREFIX_UNIT = 65_535


@dataclass
class ModelView:
    """What one model did with a batch of images.

    Args:
        name: What to call the model.
        layers: The attention layers that lie on a grid; empty for a model without.
        weights: One a layer, (batch, heads, tokens, tokens).
        rolled: Rollout through each layer, (batch, layers, tokens, tokens); None where layers do not follow each other
            on one grid.
        prefix_names: What to call the tokens before the first patch.
        maps: More maps over the image by name, (batch, rows, columns).
        logits: What the model said, (batch, classes); None: unknown.
    """

    name: str
    layers: list[LayerInfo] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    rolled: Tensor | None = None
    prefix_names: list[str] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    logits: Tensor | None = None


@dataclass(frozen=True)
class Packed:
    """Shares of attention, rounded and deflated.

    Args:
        blocks: base64 text, one a layer.
        levels: Steps between nothing and the largest share of a row.
        error: Largest difference to what was packed, as a share of a row's sum, 0 to 1.
    """

    blocks: list[str]
    levels: int
    error: float


def view_model(
    model: nn.Module,
    images: Tensor,
    name: str | None = None,
    layers: Sequence[int] | None = None,
    maps: Mapping[str, Any] | None = None,
) -> ModelView:
    """Run a model on images and keep who looks at whom.

    Args:
        model: Any model that `capture` knows; it runs in evaluation mode and is left in the mode it was in.
        images: What the model takes, (batch, channels, height, width).
        name: What to call the model; None: its class.
        layers: Attention layers to keep, from 0; None: all.
        maps: Maps over the image by name, (rows, columns) for all images or (batch, rows, columns), such as Grad-CAM.
            With them, a model needs no attention.

    Raises:
        ValueError: The model has no attention that lies on a grid and no maps are given, a layer is not there, a map
            has another shape, or there are more weights than a page can hold.
    """
    inner = unwrapped(model)
    name = name or type(inner).__name__
    own_maps = {key: _checked_map(key, values, len(images)) for key, values in (maps or {}).items()}
    was_training, logits = inner.training, None
    inner.eval()
    try:
        with torch.no_grad(), capture(inner, layers=layers, device="cpu") as record:
            logits = inner(images)
    except ValueError:
        # Maps are enough to see a model that ran and has no attention; any other complaint stands.
        if logits is None or not own_maps or _has_attention(inner, images):
            raise
    finally:
        inner.train(was_training)
    logits = logits.float().cpu() if isinstance(logits, Tensor) and logits.ndim == 2 else None
    on_grid = [index for index, info in enumerate(record.layers) if info.grid is not None]
    kept, weights = [record.layers[index] for index in on_grid], [record.weights[index].float() for index in on_grid]
    if not kept and not own_maps:
        raise ValueError(
            f"the attention of {name} does not lie on one grid of patches (it looks within windows, or merges them), "
            "which a page of patches cannot show; give maps instead, such as maps={'Grad-CAM': ...}"
        )
    _check_number(name, weights)
    rolled = _rolled(kept, weights) if layers is None and len(kept) == len(record.layers) else None
    prefix = _prefix_names(inner, max((info.grid.num_prefix_tokens for info in kept), default=0))
    return ModelView(name, kept, weights, rolled, prefix, own_maps, logits)


def pack(weights: Sequence[Tensor], grids: Sequence[Grid], budget_bytes: int = BUDGET_BYTES) -> Packed:
    """Return the attention of one image as text for the page.

    Args:
        weights: One a layer, (heads, queries, tokens); taken as shares of the sum of their row's magnitudes.
        grids: The layout of each layer's tokens.
        budget_bytes: What all layers together may take before base64; the fewest levels are used where none fits.

    Returns:
        Blocks; each is, deflated: the largest share on a patch of each row (float32), shares on prefix tokens
        (uint16, times 65535), levels of shares on patches (uint8).
    """
    rows = [_rows(layer.numpy(), grid) for layer, grid in zip(weights, grids, strict=True)]
    tried: dict[int, list[bytes]] = {}

    def fits(levels: int) -> bool:
        tried[levels] = [_deflated(row.bytes(levels)) for row in rows]
        return sum(map(len, tried[levels])) <= budget_bytes

    # Fewer levels make smaller blocks, so the most that fit are found by halving; the fewest are used where none fits.
    levels = LEVELS[bisect.bisect_left(LEVELS[:-1], True, key=fits)]
    blocks = tried.get(levels) or [_deflated(row.bytes(levels)) for row in rows]
    error = max(row.error(levels) for row in rows)
    return Packed([base64.b64encode(block).decode() for block in blocks], levels, error)


def pack_map(values: np.ndarray) -> tuple[str, float, float]:
    """Return a map as text for the page (uint8, deflated, base64), and the numbers that 0 and 255 stand for."""
    low, high = float(values.min()), float(values.max())
    scaled = np.rint(255 * (values - low) / (high - low or 1.0)).astype(np.uint8)
    return base64.b64encode(zlib.compress(scaled.tobytes())).decode(), low, high


def _deflated(content: bytes) -> bytes:
    """Return the smaller of two ways to deflate: shares of a trained model repeat, those of noise only look as if."""
    runs_only = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return min(zlib.compress(content), runs_only.compress(content) + runs_only.flush(), key=len)


@dataclass(frozen=True)
class _Rows:
    largest: np.ndarray  # (heads * queries, 1)
    prefix: np.ndarray  # (heads * queries, prefix tokens)
    patches: np.ndarray  # (heads * queries, patches)

    def quantized(self, levels: int) -> np.ndarray:
        relative = self.patches / np.maximum(self.largest, 1e-30)
        return np.rint(levels * np.sqrt(relative)).astype(np.uint8)

    def bytes(self, levels: int) -> bytes:
        prefix = np.rint(_PREFIX_UNIT * self.prefix).astype("<u2")
        return self.largest.astype("<f4").tobytes() + prefix.tobytes() + self.quantized(levels).tobytes()

    def error(self, levels: int) -> float:
        again = self.largest * np.square(self.quantized(levels).astype(np.float32) / levels)
        return float(np.abs(again - self.patches).max())


def _rows(weights: np.ndarray, grid: Grid) -> _Rows:
    shares = np.abs(weights.reshape(-1, grid.num_tokens).astype(np.float32))
    shares = shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1e-30)  # a row that looks at nobody stays zero
    prefix, patches = np.split(shares, [grid.num_prefix_tokens], axis=-1)
    return _Rows(patches.max(axis=-1, keepdims=True), prefix, patches)


def _rolled(layers: Sequence[LayerInfo], weights: Sequence[Tensor]) -> Tensor | None:
    """Return rollout through the first layer, the first two, ...: (batch, layers, tokens, tokens)."""
    if len(layers) < 2 or any(info.grid != layers[0].grid for info in layers):
        return None
    return torch.stack([rollout(weights[: depth + 1]) for depth in range(len(weights))], dim=1)


def _has_attention(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad(), capture(model, queries=[0]):
            model(images[:1])
    except ValueError:
        return False
    return True


def _checked_map(name: str, values: Any, num_images: int) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float32)
    if array.ndim == 2:
        array = np.broadcast_to(array, (num_images, *array.shape))
    if array.ndim != 3 or len(array) != num_images or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"map {name!r} must be finite numbers (rows, columns) or ({num_images}, rows, columns), got {array.shape}"
        )
    return array


def _check_number(name: str, weights: Sequence[Tensor]) -> None:
    number = sum(layer[0].numel() for layer in weights)
    if number > MAX_WEIGHTS:
        raise ValueError(
            f"{name} has {number:,} attention weights for an image and a page holds {MAX_WEIGHTS:,}; choose layers, "
            f"such as layers=[0, {len(weights) - 1}], or smaller images"
        )


def _prefix_names(model: nn.Module, count: int) -> list[str]:
    """Name the tokens before the first patch, in the order in which vitlab and timm put them."""
    special = {"class_token": "class token", "cls_token": "class token", "dist_token": "distillation token"}
    names = [word for attribute, word in special.items() if getattr(model, attribute, None) is not None]
    return (names + [f"register {number}" for number in range(1, count + 1)])[:count]
