"""Every legal choice of score x normalizer x pattern x position: the cheap way equals the plain one, gradients too."""

import inspect
import itertools
from functools import partial

import pytest
import torch

import vitlab.attention
from vitlab.attention import (
    AbsolutePosition,
    Causal,
    GraphEdges,
    Grid,
    KernelFeatures,
    NoPosition,
    Normalizer,
    Parts,
    Pattern,
    Position,
    Proportional,
    RelativePosition,
    Relu,
    ScaledDotProduct,
    Score,
    SelfAttention,
    Softmax,
    Sparsemax,
    Window1D,
    Window2D,
    windows,
)

GRID, HEADS, HEAD_DIM, BATCH = Grid(7, 11, 2), 5, 4, 2  # 79 tokens
DIM = HEADS * HEAD_DIM

# What a part needs beside the sizes that all parts of its kind are made with; a new part without an entry fails.
ARGUMENTS = {
    "BlockedWindows": [(3, 0), (3, 2)],
    "Both": [(Window2D(3), Causal()), (Window1D(5), Causal())],
    "Either": [
        (Window2D(3), Window2D(3) & (GraphEdges(77, [(0, 9)]) | Causal())),
        (Window2D(3), Window2D(5)),
        (Window2D(3), Causal()),
    ],
    "GraphEdges": [(GRID.num_patches, [(place, 3 * place % 77) for place in range(0, 77, 2)])],
    "Window1D": [(5,)],
    "Window2D": [(3,), (3, 2)],
}


def found(kind, parent=None):
    """All parts of a kind that vitlab.attention exports."""
    parts = [getattr(vitlab.attention, name) for name in vitlab.attention.__all__]
    parts = [part for part in parts if inspect.isclass(part) and issubclass(part, kind)]
    return sorted((part for part in parts if not inspect.isabstract(part)), key=lambda part: part.__name__)


def named(part, *arguments):
    return pytest.param(partial(part, *arguments), id="-".join([part.__name__, *map(str, arguments[:2])]))


def acts_on_tokens(cls):
    return next(iter(inspect.signature(cls).parameters)) == "dim"


def make_position(cls):
    if acts_on_tokens(cls):
        position = cls(DIM, GRID)
    else:
        position = cls(HEADS, HEAD_DIM)
        position.set_grid(GRID)
    for parameter in position.parameters():  # a start at zero would hide what a part does
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return position


SCORES, NORMALIZERS = found(Score), found(Normalizer)
POSITIONS = [cls for cls in found(Position) if cls not in (Position, AbsolutePosition)]
PATTERNS = [partial(cls, *arguments) for cls in found(Pattern) for arguments in ARGUMENTS.get(cls.__name__, [()])]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles so small that 79 tokens fill several, the border is met, and windows are worth cutting."""
    monkeypatch.setattr(windows, "TILE_2D", 2)
    monkeypatch.setattr(windows, "TILE_1D", 4)
    torch.manual_seed(0)


def marks_of(normalizer):
    """Those that no kernel computes take the same road as Relu: one of them is enough for every day."""
    return () if normalizer.fused or normalizer in (Proportional, Relu) else (pytest.mark.slow,)


def is_legal(score, normalizer, position):
    """What may go together, said once more in other words than in the code."""
    if normalizer is Proportional:
        return (
            score is KernelFeatures and not issubclass(position, RelativePosition) and "RoPE" not in position.__name__
        )
    return "RoPE" not in position.__name__ or score.__name__ in ("ScaledDotProduct", "Cosine")


def run(attention, tokens, plain, mask=None):
    attention._force_plain = plain
    outputs = attention(tokens, GRID, mask)
    parameters = [parameter for parameter in attention.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(outputs.square().mean(), [tokens, *parameters], allow_unused=True)
    return outputs, *(gradient for gradient in gradients if gradient is not None)


def test_every_part_that_is_exported_is_found():
    assert len(SCORES) >= 4
    assert len(NORMALIZERS) >= 7
    assert len(PATTERNS) >= 12
    assert len(POSITIONS) >= 13


@pytest.mark.parametrize("normalizer", [pytest.param(cls, marks=marks_of(cls)) for cls in NORMALIZERS])
@pytest.mark.parametrize("score", SCORES)
def test_cheap_equals_plain_for_every_pattern_and_position(score, normalizer):
    # Sparsemax has kinks where a key enters the support: in float32, rounding may put the two ways on two sides of one.
    dtype = torch.float64 if normalizer is Sparsemax else torch.float32
    tokens = torch.randn(BATCH, GRID.num_tokens, DIM, dtype=dtype, requires_grad=True)
    num_legal = 0
    for pattern, position in itertools.product(PATTERNS, POSITIONS):
        parts = {"score": score, "normalizer": normalizer(), "pattern": pattern(), "position": make_position(position)}
        if not is_legal(score, normalizer, position):
            with pytest.raises(ValueError, match="; use"):
                SelfAttention(DIM, HEADS, **parts)
            continue
        num_legal += 1
        attention = SelfAttention(DIM, HEADS, **parts).to(dtype)
        cheap, plain = (run(attention, tokens, plain) for plain in (False, True))
        assert len(cheap) == len(plain) >= 6
        for one, other in zip(cheap, plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=lambda text: f"{parts}: {text}")  # noqa: B023
    legal_positions = [position for position in POSITIONS if is_legal(score, normalizer, position)]
    assert num_legal == len(PATTERNS) * len(legal_positions)


@pytest.mark.parametrize("position", POSITIONS)
def test_cheap_equals_plain_with_padding(position):
    tokens = torch.randn(BATCH, GRID.num_tokens, DIM, requires_grad=True)
    mask = torch.rand(BATCH, 1, 1, GRID.num_tokens) > 0.3
    mask[..., : GRID.num_prefix_tokens] = True
    num_legal = 0
    for pattern, (score, normalizer) in itertools.product(
        PATTERNS, [(ScaledDotProduct, Softmax), (KernelFeatures, Proportional)]
    ):
        parts = {"pattern": pattern(), "position": make_position(position)}
        if not is_legal(score, normalizer, position):
            continue
        attention = SelfAttention(DIM, HEADS, score=score, normalizer=normalizer(), **parts)
        if not all(part.is_same_on_canvas for part in parts.values()):
            with pytest.raises(ValueError, match="depends on the size of the grid"):
                attention(tokens, GRID, mask)
            continue
        num_legal += 1
        cheap, plain = (run(attention, tokens, plain, mask) for plain in (False, True))
        for one, other in zip(cheap, plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        hidden = cheap[1][~mask[:, 0, 0]]
        assert (hidden == 0).all(), "padding has an influence"
    assert num_legal or not make_position(position).is_same_on_canvas


@pytest.mark.parametrize("pattern", [partial(Window2D, 3), partial(Window1D, 5), partial(Window2D, 3, 2)])
@pytest.mark.parametrize("position", [p for p in POSITIONS if issubclass(p, RelativePosition) or p is NoPosition])
def test_windows_are_computed_in_tiles(pattern, position, monkeypatch):
    attention = SelfAttention(DIM, HEADS, pattern=pattern(), position=make_position(position))
    tokens = torch.randn(BATCH, GRID.num_tokens, DIM)
    expected = attention(tokens, GRID)
    monkeypatch.setattr(type(attention.pattern), "mask", None)  # would be the first to be called on the dense way
    assert torch.equal(attention(tokens, GRID), expected)


def test_linear_attention_never_forms_the_weights(monkeypatch):
    tokens = torch.randn(BATCH, GRID.num_tokens, DIM)
    for pattern in (vitlab.attention.All, Causal):
        attention = SelfAttention(DIM, HEADS, score=KernelFeatures, normalizer=Proportional(), pattern=pattern())
        expected = attention(tokens, GRID)
        with monkeypatch.context() as patch:
            patch.setattr(Proportional, "forward", None)
            assert torch.equal(attention(tokens, GRID), expected)


def test_what_does_not_go_together_is_said_with_both_names():
    position = make_position(vitlab.attention.RoPE2D)
    with pytest.raises(ValueError, match=r"RoPE2D .* Additive is no dot product.* use ScaledDotProduct or Cosine"):
        SelfAttention(DIM, HEADS, score=vitlab.attention.Additive, position=position)
    with pytest.raises(ValueError, match=r"Proportional .* Cosine may make zero or negative; use .*KernelFeatures"):
        SelfAttention(DIM, HEADS, score=vitlab.attention.Cosine, normalizer=Proportional())
    with pytest.raises(ValueError, match=r"ALiBi2D adds .*Proportional divides"):
        SelfAttention(DIM, HEADS, KernelFeatures(), Proportional(), position=vitlab.attention.ALiBi2D)


def test_parts_are_named():
    parts = SelfAttention(DIM, HEADS).parts
    assert isinstance(parts, Parts)
    assert [type(part).__name__ for part in parts] == ["ScaledDotProduct", "Softmax", "All", "NoPosition"]
    assert isinstance(GraphEdges(3, [(0, 1)]), Pattern)
