"""Which scores, normalizers, patterns and positions go together; the rest is refused in words, not computed wrongly."""

from typing import NamedTuple

from vitlab.attention.normalizers import Normalizer
from vitlab.attention.patterns import Pattern
from vitlab.attention.positions import Position
from vitlab.attention.scores import Score


class Parts(NamedTuple):
    """The four choices that make a self-attention.

    Args:
        score: How alike a query and a key are.
        normalizer: How scores become weights.
        pattern: Who may look at whom.
        position: Where tokens sit.
    """

    score: Score
    normalizer: Normalizer
    pattern: Pattern
    position: Position

    def check(self) -> None:
        """Refuse parts that have no meaning together.

        Raises:
            ValueError: What does not go together, why, and what to use instead.
        """
        score, normalizer, _, position = (type(part).__name__ for part in self)
        if self.normalizer.is_proportional and not self.score.is_nonnegative:
            raise ValueError(
                f"{normalizer} divides scores by their sum, which {score} may make zero or negative; use a score that "
                "is never negative (KernelFeatures), or another normalizer"
            )
        if self.normalizer.is_proportional and self.position.adds_to_scores:
            raise ValueError(
                f"{position} adds to scores what may make their sum zero or negative, and {normalizer} divides by it; "
                "use a position on tokens, or another normalizer"
            )
        if self.position.rotates and not self.score.is_dot_product:
            raise ValueError(
                f"{position} rotates queries and keys so that their dot product depends on the offset; {score} is no "
                "dot product of the two; use ScaledDotProduct or Cosine, or another position"
            )
