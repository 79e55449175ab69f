"""Normalizers: from scores to weights. A row that may look at nobody gets zeros, never NaN.

Softmax is one choice of many (Vaswani et al., arXiv 1706.03762, section 3.2.1). Each class below names the paper that
it comes from; what they share is the mask, in which True means "may look".
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Normalizer(nn.Module, ABC):
    """Parent of all normalizers: rows of scores to rows of weights."""

    fused = False
    """Whether PyTorch's fused attention kernel computes this normalizer (with num_sinks keys more)."""

    num_sinks = 0
    """Keys of score 0 and value 0 that stand beside the real ones: weight that goes to them goes nowhere."""

    is_proportional = False
    """Whether weights are scores over their sum: then attention over features is linear in the tokens."""

    @abstractmethod
    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights.

        Args:
            scores: Any real numbers, (..., queries, keys).
            mask: True where a query may look at a key; broadcasts to the scores. None: everybody at everybody.

        Shape: (..., queries, keys) to the same, and 0 wherever the mask is False.
        """


class Softmax(Normalizer):
    """Weights that are positive and sum to 1 over the visible keys: exp(s_j) / sum_k exp(s_k).

    Shape: scores (..., queries, keys) to the same.

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.1.
    """

    fused = True

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        if mask is None:
            return scores.softmax(dim=-1)
        # The lowest finite number, not -inf: softmax of a row of -inf is NaN, and so is its gradient.
        # A row with nobody to look at is then uniform, and the second fill makes it zero (as the fused kernel does).
        hidden = ~mask
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1).masked_fill(hidden, 0.0)


class SoftmaxWithOne(Normalizer):
    """Softmax that may abstain: exp(s_j) / (1 + sum_k exp(s_k)), so that a row's weights sum to less than 1.

    The 1 is a key with score 0 and nothing to give, which takes what the real keys do not deserve.

    Shape: scores (..., queries, keys) to the same.

    Source: Miller, "Attention is off by one", 2023; a learned form of it: Xiao et al., arXiv 2309.17453, section 3.3.
    """

    fused = True
    num_sinks = 1

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        hidden = None if mask is None else ~mask
        if hidden is not None:
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        sink = scores.new_zeros(1).expand(*scores.shape[:-1], 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
        return weights if hidden is None else weights.masked_fill(hidden, 0.0)


class Relu(Normalizer):
    """Weights without competition between keys: max(s_j, 0) / n, where n keys are visible.

    The division keeps the sum of the weights at the size that softmax gives it, whatever the number of keys.

    Shape: scores (..., queries, keys) to the same.

    Source: Wortsman et al., arXiv 2309.08586, section 3.
    """

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        return _divide_by_visible(scores.relu(), mask)


class SquaredRelu(Normalizer):
    """Sparse weights that favor the best keys without competition: max(s_j, 0)^2 / n, where n keys are visible.

    Shape: scores (..., queries, keys) to the same.

    Source: Hua et al. (FLASH), arXiv 2202.10447, section 3.1; the division: arXiv 2309.08586, section 3.
    """

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        return _divide_by_visible(scores.relu().square(), mask)


class Sigmoid(Normalizer):
    """Each key decided by itself: 1 / (1 + exp(-(s_j - log n))), where n keys are visible.

    The shift by log n makes the weights sum to about 1 at the start of training, as softmax's do.

    Shape: scores (..., queries, keys) to the same.

    Source: Ramapuram et al., arXiv 2409.04431, section 2 and appendix on the bias.
    """

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        if mask is None:
            return (scores - math.log(scores.shape[-1])).sigmoid()
        visible = _num_visible(scores, mask)
        return (scores - visible.log()).sigmoid().masked_fill(~mask, 0.0)


class Sparsemax(Normalizer):
    """The distribution that is nearest to the scores: max(s_j - t, 0), with t such that the sum is 1.

    Keys that score far below the best get exactly 0.

    Shape: scores (..., queries, keys) to the same.

    Source: Martins and Astudillo, arXiv 1602.02068, section 2, algorithm 1.
    """

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        if mask is not None:
            # Far below the rest, so that hidden keys are never supported; not -inf, which sums to NaN.
            lowest = scores.detach().amin() - 2.0
            scores = torch.where(mask, scores, lowest)
        dtype = scores.dtype
        scores = scores.to(torch.promote_types(dtype, torch.float32))  # sums in 8 bits would miss 1 by percents
        # The threshold does not change when all scores move alike; the best at 0 keeps the sums small and exact.
        scores = scores - scores.detach().amax(dim=-1, keepdim=True)
        ordered = scores.sort(dim=-1, descending=True).values
        sums = ordered.cumsum(dim=-1) - 1
        ranks = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
        support = (ordered * ranks > sums).sum(dim=-1, keepdim=True)  # how many keys get more than 0
        threshold = sums.gather(-1, support - 1) / support
        weights = (scores - threshold).relu().to(dtype)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


class Proportional(Normalizer):
    """Weights in proportion to scores that are never negative: s_j / sum_k s_k.

    With a score of kernel features this is linear attention, computed without ever forming the weights.

    Shape: scores (..., queries, keys), none below 0, to the same.

    Source: Katharopoulos et al., arXiv 2006.16236, section 3.2, equation 4.
    """

    is_proportional = True

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn scores into weights."""
        if mask is not None:
            scores = scores.masked_fill(~mask, 0.0)
        # A sum of zero means that nobody is visible, or that no score is above zero: zeros, not 0 / 0.
        total = scores.sum(dim=-1, keepdim=True, dtype=torch.promote_types(scores.dtype, torch.float32))
        return (scores / total.clamp(min=torch.finfo(total.dtype).tiny)).to(scores.dtype)


def _num_visible(scores: Tensor, mask: Tensor) -> Tensor:
    """Count the keys that each query may look at, at least 1 so that an empty row divides by something."""
    return mask.expand(*mask.shape[:-1], scores.shape[-1]).sum(dim=-1, keepdim=True).clamp(min=1).to(scores.dtype)


def _divide_by_visible(weights: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return weights / weights.shape[-1]
    return weights.masked_fill(~mask, 0.0) / _num_visible(weights, mask)
