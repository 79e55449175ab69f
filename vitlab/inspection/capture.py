"""Capture: who looks at whom, recorded from a model that runs as fast as ever.

A fused kernel never holds its weights, and hooks on softmax or dropout see nothing. So while a capture is on, calls of
the kernel are watched: what goes in (queries and keys after norm and rotation, bias, mask) gives the weights once more,
and weights times values must give what came out. The model is not changed, but for hooks that are taken off again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from vitlab.attention import Grid, SelfAttention
from vitlab.inspection.kernel_call import KernelCall, Selection, check_outputs, refuse_dropout

_SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)
_INSIDE_A_LAYER = (nn.Softmax, nn.Dropout, nn.Identity)  # what may stand between an attention layer and its softmax
# timm's layers whose softmax is no weight between tokens: over channels (XCiT), or mixed across heads later (CaiT).
_NOT_BETWEEN_TOKENS = ("XCA", "TalkingHeadAttn")


@dataclass(frozen=True)
class LayerInfo:
    """Where recorded weights come from.

    Args:
        name: The module's path in the model.
        num_heads: Heads that the layer has, recorded or not.
        grid: The layout of its tokens; None where they are no plain grid, such as Swin's windows.
    """

    name: str
    num_heads: int
    grid: Grid | None


class Record:
    """What a capture has recorded; empty until the model has run.

    Attributes:
        layers: A LayerInfo for each attention layer that was recorded, in the order in which they ran.
        intermediates: Outputs of the modules that were asked for, by name.
    """

    def __init__(self) -> None:
        self.layers: list[LayerInfo] = []
        self.intermediates: dict[str, Tensor] = {}
        self._parts: list[list[Tensor]] = []

    @property
    def weights(self) -> list[Tensor]:
        """The weights of each layer, (batch, heads, queries, keys); batches of several runs are joined.

        Swin's entries are (batch * windows, heads, queries, keys).
        """
        for index, parts in enumerate(self._parts):
            if len(parts) > 1:
                self._parts[index] = [torch.cat(parts)]
        return [parts[0] for parts in self._parts]

    def add(self, place: int, info: LayerInfo, weights: Tensor) -> None:
        """Take in the weights of one layer in one run."""
        if place == len(self.layers):
            self.layers.append(info)
            self._parts.append([])
        self._parts[place].append(weights)

    def keep(self, name: str, output: Tensor) -> None:
        """Take in the output of a module that was asked for."""
        self.intermediates[name] = output


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    intermediates: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    differentiable: bool = False,
) -> Iterator[Record]:
    """Record the attention weights of a model while it runs: `with capture(model) as record: model(images)`.

    Any model whose self-attention calls PyTorch's fused kernel or a softmax over keys will do: vitlab's, timm's. Each
    run inside the block adds a batch. Choose layers, heads, queries, a smaller dtype or the CPU to save memory.

    Args:
        model: A vitlab model or a timm ViT, in evaluation mode (dropout hides what weights would give).
        layers: Which attention layers, counted from 0 in the order in which they run; None: all.
        heads: Which heads; None: all.
        queries: Which tokens that look, counted from 0, class token first; None: all.
        intermediates: Names of modules whose outputs are to be kept, as in model.named_modules().
        dtype: What to store, such as torch.float16; None: what the model computes in.
        device: Where to store; None: where the model is.
        differentiable: Whether outputs are computed from the recorded weights, so that gradients with respect to them
            exist (gradient rollout); slower, and the weights are leaves' descendants with `.grad` after backward.

    Yields:
        The Record that fills as the model runs.

    Raises:
        ValueError: Nothing was recorded; a layer, head, query or module is not there; the recomputed weights do not
            give what the kernel gave.

    Source: the kernel, Dao et al., arXiv 2205.14135; the check, weights @ values, is equation 1 of arXiv 1706.03762.
    """
    named = dict(model.named_modules())
    unknown = [name for name in intermediates if name not in named]
    if unknown:
        some = ", ".join(list(named)[1:6])
        raise ValueError(f"the model has no module {unknown[0]!r}; see model.named_modules(), such as {some}")
    watcher = _Watcher(model, layers, Selection(heads, queries, dtype, device), differentiable)
    hooks = [hook for name, module in named.items() for hook in watcher.hooks(name, module, name in intermediates)]
    try:
        # A compiled model has its attention inside one call, where none can be seen: while watched it is not compiled.
        with torch.compiler.set_stance("force_eager"), watcher:
            yield watcher.record
    finally:
        for hook in hooks:
            hook.remove()
    watcher.check()


class _Watcher(TorchFunctionMode):
    """Sees every call of a torch function while a capture is on, and knows which module makes it."""

    def __init__(
        self, model: nn.Module, layers: Sequence[int] | None, selection: Selection, differentiable: bool
    ) -> None:
        super().__init__()
        self.record = Record()
        self.model = model
        self.layers = layers
        self.selection = selection
        self.differentiable = differentiable
        self.running: list[tuple[str, nn.Module]] = []  # the modules that are running, the innermost last
        self.image_size: tuple[int, int] | None = None
        self.seen = 0  # attention layers of this run so far
        self.most_seen = 0
        self.ours_is_known = False  # whether the SelfAttention that is running has shown its weights already
        self.grid: Grid | None = None  # of its tokens

    def hooks(self, name: str, module: nn.Module, keep_output: bool) -> Iterator[RemovableHandle]:
        """Put on a module what keeps track of it."""
        yield module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)
        if isinstance(module, SelfAttention):
            yield module.register_forward_hook(partial(self._leave_ours, name), with_kwargs=True)
        if keep_output:
            yield module.register_forward_hook(lambda _, args, output: self.record.keep(name, output))
        yield module.register_forward_hook(lambda *_: self._leave(), always_call=True)

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run a torch function, and look at it if it is attention."""
        output = function(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention:
            return self._see_kernel(KernelCall.of(*args, **(kwargs or {})), output)
        if function in _SOFTMAXES and self._ours() is None:
            self._see_softmax(output)
        return output

    def check(self) -> None:
        """Refuse a capture that did not see what it was asked for.

        Raises:
            ValueError: Nothing was recorded, or a layer is not there.
        """
        if not self.most_seen:
            raise ValueError(
                f"no attention was recorded from {type(self.model).__name__}: it did not run inside the block, or has "
                "no self-attention"
            )
        missing = [layer for layer in self.layers or () if not 0 <= layer < self.most_seen]
        if missing:
            raise ValueError(f"the model has no attention layer {missing[0]}; use 0 to {self.most_seen - 1}")

    def _enter(self, name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if module is self.model:
            self.running.clear()  # a run that failed half-way may have left something
            self.seen = 0
            images = args[0] if args else None
            self.image_size = tuple(images.shape[-2:]) if isinstance(images, Tensor) and images.ndim == 4 else None
        if isinstance(module, SelfAttention):
            self.ours_is_known, self.grid = False, kwargs["grid"] if "grid" in kwargs else args[1]
        self.running.append((name, module))

    def _leave(self) -> None:
        if self.running:
            self.running.pop()

    def _ours(self) -> SelfAttention | None:
        """Return vitlab's SelfAttention that is running, if one is."""
        return next((module for _, module in reversed(self.running) if isinstance(module, SelfAttention)), None)

    def _leave_ours(
        self, name: str, module: SelfAttention, args: tuple, kwargs: dict[str, Any], output: Tensor
    ) -> Tensor | None:
        """Ask vitlab's own layer for its weights where it did not go by the kernel in one piece."""
        place = None if self.ours_is_known else self._next_place()
        if place is None:
            return None
        refuse_dropout(module.dropout if module.training else 0.0, name)
        weights = module.weights(*args, **kwargs)
        again = module.gather_by(weights, *args, **kwargs)
        if self.differentiable:
            self._add(place, name, weights.shape, _followed(weights))
            return again
        check_outputs(again, output, name)
        self.selection.check(*weights.shape[1:3], name)
        self._add(place, name, weights.shape, self.selection.stored(weights))
        return None

    def _see_kernel(self, call: KernelCall, output: Tensor) -> Tensor:
        ours = self._ours()
        if not call.is_self_attention or (ours is not None and not self._is_whole(call)):
            return output  # pooling, or a piece of a window
        self.ours_is_known = ours is not None
        place, name = self._next_place(), self._owner()
        if place is None:
            return output
        if self.differentiable:
            weights = _followed(call.differentiable_weights(name))
            self._add(place, name, weights.shape, weights)
            return weights @ call.values
        self.selection.check(*call.queries.shape[1:3], name)
        self._add(place, name, call.queries.shape, call.weights(self.selection, output, name))
        return output

    def _see_softmax(self, weights: Tensor) -> None:
        """Keep the weights of a layer that forms them itself, as timm's do with fused attention off."""
        layers = {type(module).__name__ for _, module in self.running}
        if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2] or layers & set(_NOT_BETWEEN_TOKENS):
            return
        place, name = self._next_place(), self._owner()
        if place is not None:
            self.selection.check(*weights.shape[1:3], name)
            kept = _followed(weights) if self.differentiable else self.selection.stored(weights)
            self._add(place, name, weights.shape, kept)

    def _is_whole(self, call: KernelCall) -> bool:
        """Whether a call of vitlab's own layer is over all its tokens, in the layout that it shows to the world."""
        return call.queries.shape[1] == self._ours().num_heads and call.queries.shape[-2] == self.grid.num_tokens

    def _owner(self) -> str:
        """Return the name of the layer that is running, not of the softmax in it."""
        if (ours := self._ours()) is not None:
            return next(name for name, module in self.running if module is ours)
        return next((name for name, module in reversed(self.running) if not isinstance(module, _INSIDE_A_LAYER)), "")

    def _next_place(self) -> int | None:
        """Return where in the record the next attention layer belongs, or None where it was not asked for."""
        layer = self.seen
        self.seen += 1
        self.most_seen = max(self.most_seen, self.seen)
        wanted = None if self.layers is None else sorted(set(self.layers))
        if wanted is None:
            return layer
        return wanted.index(layer) if layer in wanted else None

    def _add(self, place: int, name: str, shape: torch.Size, weights: Tensor) -> None:
        grid = _timm_grid(self.model, self.image_size, num_tokens=shape[-2]) if self._ours() is None else self.grid
        self.record.add(place, LayerInfo(name, shape[1], grid), weights)


def _followed(weights: Tensor) -> Tensor:
    """Return weights whose gradient is kept."""
    if weights.requires_grad:
        weights.retain_grad()
    return weights


def _timm_grid(model: nn.Module, image_size: tuple[int, int] | None, num_tokens: int) -> Grid | None:
    """Return the layout of a timm model's tokens, or None where they are not one grid behind prefix tokens."""
    vit = next((module for module in model.modules() if hasattr(module, "patch_embed")), None)
    patch_size = getattr(getattr(vit, "patch_embed", None), "patch_size", None)
    if patch_size is None or image_size is None:
        return None
    patch_size = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    height, width = (-(-pixels // side) for pixels, side in zip(image_size, patch_size, strict=True))
    grid = Grid(height, width, getattr(vit, "num_prefix_tokens", 0))
    return grid if grid.num_tokens == num_tokens else None
