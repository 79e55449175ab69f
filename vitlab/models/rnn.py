"""The recurrent network over the tokens of an image: the same tokens as a ViT, read one after the other.

LSTM: Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, with the forget gate of Gers et al., Neural Computation
12(10), 2000. GRU: Cho et al., arXiv 1406.1078, section 2.3. Both directions: Schuster and Paliwal, IEEE Transactions on
Signal Processing 45(11), 1997. An image read row by row: pixel by pixel in Le et al., arXiv 1504.00941, section 4.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitlab.attention import Grid
from vitlab.models.heads import Head
from vitlab.models.tokenizers import PatchTokenizer, Tokenizer

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
_REMEMBER = 1.0  # start of the bias of the gate that keeps the state


@dataclass
class RNNShape:
    """The numbers that make an RNN small or large.

    Args:
        dim: Width of a token, before and after every layer; with two directions each gives half of it.
        depth: Layers, 1 or more.
        dropout: Share of the numbers dropped between layers in training, 0 to below 1.

    Raises:
        ValueError: A number is out of range.
    """

    dim: int
    depth: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dim", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


# An LSTM layer holds 8 * dim**2 weights: as many as a ViT's block whose MLP is twice as wide as its tokens.
SIZES = {
    "micro": RNNShape(dim=48, depth=3),  # beside ViT micro
    "pico": RNNShape(dim=128, depth=6),  # beside ViT pico
    "compact": RNNShape(dim=384, depth=7),  # as wide and deep as ViT compact, with a third more parameters
}


class LastStateHead(Head):
    """Classify by the last hidden state of each direction, which has read the whole image.

    Args:
        dim: Width of a token.
        num_classes: Classes, 1 or more; 0 gives the states themselves.
        patch_size: Not used; every head is called with it.
        bidirectional: Whether the second half of a token comes from a direction that ends at the first token.

    Shape: tokens (batch, tokens, dim) to logits (batch, classes).

    Source: Sutskever et al., arXiv 1409.3215, section 2: a recurrent net's last state stands for the whole sequence.
    """

    def __init__(self, dim: int, num_classes: int, patch_size: int = 1, bidirectional: bool = False) -> None:
        super().__init__(dim, num_classes, out_features=num_classes)
        self.bidirectional = bidirectional

    def forward(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the logits.

        Shape: (batch, tokens, dim) to (batch, classes).
        """
        return self.classifier(self.pool(tokens, grid, visible))

    def pool(self, tokens: Tensor, grid: Grid, visible: Tensor | None = None) -> Tensor:
        """Return the last states, layer-normalized.

        Shape: (batch, tokens, dim) to (batch, dim).

        Raises:
            ValueError: Tokens are hidden: the states have read them already.
        """
        if visible is not None:
            raise ValueError("the last state of an RNN has read every token, padding too; give it images of one size")
        if not self.bidirectional:
            return self.norm(tokens[:, -1])
        half = tokens.shape[-1] // 2
        return self.norm(torch.cat([tokens[:, -1, :half], tokens[:, 0, half:]], dim=-1))  # (batch, dim)


class RNN(nn.Module):
    """Recurrent network that reads an image's tokens row by row, left to right.

    Args:
        image_size: Side of the images in pixels, or [height, width]; other sizes may still come at run time.
        num_classes: Classes, 1 or more; 0 gives the pooled vector instead of logits.
        in_channels: Channels of an image: 3 for RGB, 1 for gray.
        patch_size: Side of a patch in pixels; must divide image_size.
        size: A name from the size table (micro, pico, compact), or an RNNShape.
        tokenizer: How an image becomes tokens; called with (in_channels, dim, patch_size).
        cell: `lstm`: two states, three gates; `gru`: one state, two gates, three quarters of the weights.
        bidirectional: Whether a second direction reads from the last token to the first, each half as wide.
        head: What becomes of the tokens; called with (dim, num_classes, patch_size). null: one label from the last
            hidden state of each direction (LastStateHead), which is what a recurrent net has to remember an image by.

    Shape: images (batch, in_channels, height, width) to logits (batch, classes), or of the head's own shape.

    Raises:
        ValueError: An unknown size or cell, a patch_size that does not divide image_size, an odd width for two
            directions, or a head that needs a class token.

    Source: torch.nn.LSTM and torch.nn.GRU. Recurrent weights start orthogonal (Saxe et al., arXiv 1312.6120) and the
    bias of the gate that keeps the state at 1 (Gers et al., 2000; Jozefowicz et al., ICML 2015); without it, a net that
    has to remember starts by forgetting.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        num_classes: int = 1000,
        in_channels: int = 3,
        patch_size: int = 16,
        size: str | RNNShape = "pico",
        tokenizer: Callable[[int, int, int], Tokenizer] = PatchTokenizer,
        cell: Literal["lstm", "gru"] = "lstm",
        bidirectional: bool = False,
        head: Callable[[int, int, int], Head] | None = None,
    ) -> None:
        super().__init__()
        shape = _shape_of(size)
        _check_arguments(shape, cell, bidirectional)
        self.tokenizer = tokenizer(in_channels, shape.dim, patch_size)
        self.tokenizer.grid(*((image_size, image_size) if isinstance(image_size, int) else image_size))
        self.layers = CELLS[cell](
            shape.dim,
            shape.dim // 2 if bidirectional else shape.dim,
            num_layers=shape.depth,
            batch_first=True,
            dropout=shape.dropout if shape.depth > 1 else 0.0,
            bidirectional=bidirectional,
        )
        if head is None:
            self.head: Head = LastStateHead(shape.dim, num_classes, patch_size, bidirectional)
        else:
            self.head = head(shape.dim, num_classes, patch_size)
        _check_head(self.head, bidirectional)
        _initialize(self.layers, cell)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Shape: (batch, in_channels, height, width) to (batch, classes).

        Raises:
            ValueError: A list of images instead of one tensor.
        """
        if not isinstance(images, Tensor):
            raise ValueError(
                "an RNN reads a batch of images of one size, (batch, channels, height, width), because it would read "
                "padding too; group the images by size, or use a ViT"
            )
        return self.head(self.forward_features(images), self.tokenizer.grid(*images.shape[-2:]))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return what the last layer says after each token.

        Shape: (batch, in_channels, height, width) to (batch, tokens, dim).
        """
        return self.layers(self.tokenizer(images))[0]

    def no_weight_decay(self) -> set[str]:
        """Return the names of the head's parameters that should not be pulled to zero."""
        return {f"head.{name}" for name in self.head.no_weight_decay()}

    def input_and_output_layers(self) -> set[str]:
        """Return the names of the parameters of the first layer and the last, which are no hidden layers."""
        outer = ("tokenizer.", "head.classifier.")
        return {name for name, _ in self.named_parameters() if name.startswith(outer)}


def _shape_of(size: str | RNNShape) -> RNNShape:
    if isinstance(size, RNNShape):
        return size
    if size not in SIZES:
        raise ValueError(f"unknown RNN size {size!r}; use one of {', '.join(SIZES)}, or an RNNShape")
    return SIZES[size]


def _check_arguments(shape: RNNShape, cell: str, bidirectional: bool) -> None:
    if cell not in CELLS:
        raise ValueError(f"unknown cell {cell!r}; use one of {', '.join(CELLS)}")
    if bidirectional and shape.dim % 2:
        raise ValueError(f"two directions share the width of a token, so dim must be even, got {shape.dim}")


def _check_head(head: Head, bidirectional: bool) -> None:
    if head.num_class_tokens:
        raise ValueError(
            f"{type(head).__name__} wants a class token before all others, where an RNN has read nothing yet; "
            "use another pooling (mean, attention), or no head for the last hidden state"
        )
    if isinstance(head, LastStateHead) and head.bidirectional != bidirectional:
        raise ValueError(
            f"LastStateHead is for bidirectional={head.bidirectional} and the RNN has bidirectional={bidirectional}; "
            "leave the head out, and the RNN makes the one that fits"
        )


def _initialize(layers: nn.RNNBase, cell: str) -> None:
    """Start each gate: recurrent weights orthogonal, input weights Xavier uniform, no bias but the keeping gate's."""
    kept = 1  # torch stacks LSTM's gates as input, forget, cell, output and GRU's as reset, update, new
    for name, parameter in layers.named_parameters():
        for gate, part in enumerate(parameter.data.chunk(4 if cell == "lstm" else 3)):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(part)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(part)
            else:  # torch adds two biases; one of them makes the start
                nn.init.constant_(part, _REMEMBER if name.startswith("bias_ih") and gate == kept else 0.0)
