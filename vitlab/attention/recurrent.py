"""Causal linear attention as what it also is: an RNN, whose state is a matrix for each head.

Trained in parallel over all tokens, run token by token at a cost that does not grow with what came before:
Katharopoulos et al., "Transformers are RNNs", arXiv 2006.16236, section 3.4.
"""

import torch
from torch import Tensor, nn

from vitlab.attention.linear import LinearState, empty_state, linear_step
from vitlab.attention.patterns import Causal
from vitlab.attention.positions import NoPosition
from vitlab.attention.self_attention import SelfAttention


class RecurrentAttention(nn.Module):
    """The same weights as a causal linear SelfAttention, run as an RNN.

    Args:
        attention: A SelfAttention with a score of features (KernelFeatures), the Proportional normalizer, the Causal
            pattern and no position in it; its weights are shared, not copied.

    Shape: tokens (batch, tokens, dim) to the same; equal to attention's parallel form without prefix tokens.

    Raises:
        ValueError: The attention has other parts.

    Source: Katharopoulos et al., arXiv 2006.16236, section 3.4.
    """

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        _, normalizer, pattern, position = attention.parts  # a proportional normalizer goes with features alone
        if not (normalizer.is_proportional and type(pattern) is Causal and type(position) is NoPosition):
            names = ", ".join(type(part).__name__ for part in attention.parts)
            raise ValueError(
                "only causal linear attention is an RNN with a state of fixed size: use KernelFeatures, Proportional, "
                f"Causal and NoPosition, got {names}"
            )
        self.attention = attention

    def forward(self, tokens: Tensor) -> Tensor:
        """Take in the tokens one by one.

        Shape: (batch, tokens, dim) to the same.
        """
        state, outputs = self.start(tokens), []
        for token in tokens.unbind(dim=1):
            state, output = self.step(state, token)
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    def start(self, tokens: Tensor) -> LinearState:
        """Return the state before the first token.

        Args:
            tokens: Any tensor of the batch, (batch, ...).
        """
        width = self.attention.head_dim
        return empty_state(len(tokens), self.attention.num_heads, width, width, like=tokens)

    def step(self, state: LinearState, token: Tensor) -> tuple[LinearState, Tensor]:
        """Take in one token.

        Args:
            state: What was remembered of the tokens before.
            token: (batch, dim).

        Returns:
            The new state, and the attention's output for this token, (batch, dim).
        """
        qkv = self.attention.qkv(token).unflatten(1, (3, self.attention.num_heads, self.attention.head_dim))
        queries, keys, values = qkv.unbind(dim=1)  # each (batch, heads, head_dim)
        queries, keys = self.attention.query_norm(queries), self.attention.key_norm(keys)
        queries, keys = self.attention.score.features(queries, keys)
        state, gathered = linear_step(state, queries, keys, values)
        return state, self.attention.projection(gathered.flatten(1))
