"""Self-attention over a set of tokens as four choices: score, normalizer, pattern and position."""

from vitlab.attention.grid import Grid
from vitlab.attention.normalizers import Normalizer, Softmax
from vitlab.attention.patterns import All, Pattern
from vitlab.attention.positions import LearnedPosition, NoPosition, Position, SinCos2D
from vitlab.attention.scores import ScaledDotProduct, Score
from vitlab.attention.self_attention import SelfAttention

__all__ = [
    "All",
    "Grid",
    "LearnedPosition",
    "NoPosition",
    "Normalizer",
    "Pattern",
    "Position",
    "ScaledDotProduct",
    "Score",
    "SelfAttention",
    "SinCos2D",
    "Softmax",
]
