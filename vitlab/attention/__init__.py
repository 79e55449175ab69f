"""Self-attention over a set of tokens as four choices: score, normalizer, pattern and position."""

from vitlab.attention.absolute_positions import LearnedFactorized2D, LearnedPosition, OneHot, SinCos1D, SinCos2D
from vitlab.attention.combinations import Parts
from vitlab.attention.conditional_positions import ConditionalPosition
from vitlab.attention.continuous_positions import ContinuousDynamics, FourierFeatures
from vitlab.attention.convolution import ConvolutionAsAttention, attention_from_conv
from vitlab.attention.graphs import GraphEdges, graph_mask
from vitlab.attention.grid import Grid
from vitlab.attention.linear import LinearState, linear_step
from vitlab.attention.normalizers import (
    Normalizer,
    Proportional,
    Relu,
    Sigmoid,
    Softmax,
    SoftmaxWithOne,
    Sparsemax,
    SquaredRelu,
)
from vitlab.attention.patterns import All, Both, Causal, Either, Pattern, PlacePattern
from vitlab.attention.positions import AbsolutePosition, NoPosition, Position, RelativePosition
from vitlab.attention.recurrent import RecurrentAttention
from vitlab.attention.relative_positions import ALiBi2D, QuadraticRelative, RelativeBias2D
from vitlab.attention.rotary_positions import RoPE2D, RoPE2DMixed, RotaryPosition
from vitlab.attention.scores import Additive, Cosine, KernelFeatures, ScaledDotProduct, Score
from vitlab.attention.self_attention import SelfAttention
from vitlab.attention.windows import BlockedWindows, Window1D, Window2D

__all__ = [
    "ALiBi2D",
    "AbsolutePosition",
    "Additive",
    "All",
    "BlockedWindows",
    "Both",
    "Causal",
    "ConditionalPosition",
    "ContinuousDynamics",
    "ConvolutionAsAttention",
    "Cosine",
    "Either",
    "FourierFeatures",
    "GraphEdges",
    "Grid",
    "KernelFeatures",
    "LearnedFactorized2D",
    "LearnedPosition",
    "LinearState",
    "NoPosition",
    "Normalizer",
    "OneHot",
    "Parts",
    "Pattern",
    "PlacePattern",
    "Position",
    "Proportional",
    "QuadraticRelative",
    "RecurrentAttention",
    "RelativeBias2D",
    "RelativePosition",
    "Relu",
    "RoPE2D",
    "RoPE2DMixed",
    "RotaryPosition",
    "ScaledDotProduct",
    "Score",
    "SelfAttention",
    "Sigmoid",
    "SinCos1D",
    "SinCos2D",
    "Softmax",
    "SoftmaxWithOne",
    "Sparsemax",
    "SquaredRelu",
    "Window1D",
    "Window2D",
    "attention_from_conv",
    "graph_mask",
    "linear_step",
]
