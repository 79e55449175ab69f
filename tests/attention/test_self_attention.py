import copy
import pickle

import pytest
import torch
from torch import nn

from vitlab.attention import (
    ALiBi2D,
    Grid,
    KernelFeatures,
    NoPosition,
    Normalizer,
    Pattern,
    Position,
    Proportional,
    Score,
    SelfAttention,
    Sparsemax,
    Window1D,
    Window2D,
)

DIM, HEADS, GRID = 35, 5, Grid(3, 4, 1)  # heads of 7, 13 tokens


class Sparse(Pattern):
    """Random visibility, with a token that sees nobody and one that nobody sees."""

    def mask(self, grid, device=None):
        mask = torch.rand(grid.num_tokens, grid.num_tokens, generator=torch.Generator().manual_seed(0)) > 0.5
        mask[3] = False
        mask[:, 5] = False
        return mask.to(device)


class Bias(Position):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(HEADS, GRID.num_tokens, GRID.num_tokens))

    def on_scores(self, grid):
        return self.table


class Stretch(Position):
    """Acts on tokens, on queries and on keys."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(GRID.num_tokens, DIM))
        self.gain = nn.Parameter(torch.rand(GRID.num_tokens, 1) + 0.5)

    def on_tokens(self, tokens, grid):
        return tokens + self.shift

    def on_queries_and_keys(self, queries, keys, grid):
        return queries * self.gain, keys / self.gain


class Cosine(Score):
    def forward(self, queries, keys):
        return nn.functional.cosine_similarity(queries[..., :, None, :], keys[..., None, :, :], dim=-1)


class Relu(Normalizer):
    def forward(self, scores, mask=None):
        return scores.relu() if mask is None else scores.relu() * mask


def tokens_of(batch=2):
    return torch.randn(batch, GRID.num_tokens, DIM, requires_grad=True)


def outputs_and_gradients(attention, tokens, plain):
    attention._force_plain = plain
    outputs = attention(tokens, GRID)
    return outputs, *torch.autograd.grad(outputs.square().sum(), [tokens, *attention.parameters()])


@pytest.mark.parametrize("position", [NoPosition, Bias, Stretch])
@pytest.mark.parametrize("pattern", [None, Sparse])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_fused_equals_plain_in_outputs_and_gradients(position, pattern, qk_norm):
    torch.manual_seed(0)
    attention = SelfAttention(DIM, HEADS, pattern=pattern and pattern(), position=position(), qk_norm=qk_norm)
    tokens = tokens_of()
    fused = outputs_and_gradients(attention, tokens, plain=False)
    plain = outputs_and_gradients(attention, tokens, plain=True)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parts", [{"score": Cosine()}, {"normalizer": Relu()}])
def test_parts_that_the_kernel_lacks_are_computed_step_by_step(parts):
    attention = SelfAttention(DIM, HEADS, pattern=Sparse(), **parts)
    tokens = tokens_of()
    _, _, values = attention._queries_keys_values(tokens, GRID, None)
    gathered = (attention.weights(tokens, GRID) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(tokens, GRID), attention.projection(gathered))


def test_it_equals_torch_multihead_attention_with_copied_weights():
    attention = SelfAttention(DIM, HEADS)
    reference = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    reference.in_proj_weight.data.copy_(attention.qkv.weight)
    reference.in_proj_bias.data.copy_(attention.qkv.bias.data.normal_())
    reference.out_proj.load_state_dict(attention.projection.state_dict())
    tokens = tokens_of()
    expected, weights = reference(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(attention(tokens, GRID), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention.weights(tokens, GRID), weights, atol=1e-5, rtol=1e-5)


def test_weights_times_values_is_what_the_fused_kernel_gives():
    attention = SelfAttention(DIM, HEADS, pattern=Sparse(), position=Bias(), qk_norm=True)
    tokens = tokens_of()
    weights = attention.weights(tokens, GRID)
    assert weights.shape == (2, HEADS, GRID.num_tokens, GRID.num_tokens)
    _, _, values = attention._queries_keys_values(tokens, GRID, None)
    outputs = attention.projection((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(tokens, GRID), outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
def test_a_token_that_sees_nobody_gathers_nothing(plain):
    attention = SelfAttention(DIM, HEADS, pattern=Sparse(), position=Bias())
    attention._force_plain = plain
    outputs = attention(tokens_of(), GRID)
    torch.testing.assert_close(outputs[:, 3], attention.projection.bias.expand(2, -1))


@pytest.mark.parametrize("plain", [False, True])
def test_what_may_not_be_seen_has_a_gradient_of_exactly_zero(plain):
    attention = SelfAttention(DIM, HEADS, pattern=Sparse())
    attention._force_plain = plain
    tokens, visible = tokens_of(1), Sparse().mask(GRID)
    for looker in range(GRID.num_tokens):
        (gradient,) = torch.autograd.grad(attention(tokens, GRID)[0, looker].sum(), tokens)
        seen = gradient[0].abs().sum(-1) > 0
        # What a token sees, and the token itself, whose query chooses (unless there is nobody to choose from).
        may = visible[looker] | (torch.arange(GRID.num_tokens) == looker) & visible[looker].any()
        assert torch.equal(seen, may)


def test_without_position_permuting_tokens_permutes_outputs():
    attention, tokens = SelfAttention(DIM, HEADS), tokens_of()
    order = torch.randperm(GRID.num_tokens)
    torch.testing.assert_close(
        attention(tokens[:, order], GRID), attention(tokens, GRID)[:, order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("plain", [False, True])
def test_dropout_acts_in_training_alone(plain):
    attention, tokens = SelfAttention(DIM, HEADS, dropout=0.5), tokens_of()
    attention._force_plain = plain
    assert not torch.equal(attention(tokens, GRID), attention(tokens, GRID))
    attention.eval()
    assert torch.equal(attention(tokens, GRID), attention(tokens, GRID))


def test_weights_are_without_dropout_even_in_training():
    attention, tokens = SelfAttention(DIM, HEADS, dropout=0.5).train(), tokens_of()
    torch.testing.assert_close(attention.weights(tokens, GRID).sum(-1), torch.ones(2, HEADS, GRID.num_tokens))


def test_a_part_that_is_replaced_takes_effect():
    grid = Grid(20, 20)
    attention, tokens = SelfAttention(DIM, HEADS, pattern=Window2D(3)), torch.randn(1, 400, DIM)
    attention(tokens, grid)
    attention.pattern = Window2D(7)
    again = SelfAttention(DIM, HEADS, pattern=Window2D(7))
    again.load_state_dict(attention.state_dict())
    assert torch.equal(attention(tokens, grid), again(tokens, grid))
    attention.position = ALiBi2D(HEADS, DIM // HEADS)
    again.position = attention.position
    again._force_plain = True
    torch.testing.assert_close(attention(tokens, grid), again(tokens, grid), atol=1e-5, rtol=1e-5)


def test_a_layout_made_in_inference_mode_serves_training():
    attention, tokens = SelfAttention(DIM, HEADS, pattern=Window2D(3), normalizer=Sparsemax()), torch.randn(1, 400, DIM)
    with torch.inference_mode():
        attention(tokens, Grid(20, 20))
    attention(tokens, Grid(20, 20)).sum().backward()
    assert attention.qkv.weight.grad.abs().sum() > 0


def test_layouts_are_no_part_of_a_copy_or_a_file_and_hold_no_offsets_that_nobody_asks_for():
    attention = SelfAttention(DIM, HEADS, pattern=Window1D(3))
    attention(torch.randn(1, 400, DIM), Grid(20, 20))
    ((_, _, layout),) = attention._layouts.values()
    assert layout.offsets is None
    assert copy.deepcopy(attention)._layouts == {}
    assert len(pickle.dumps(attention)) < 1.5 * sum(4 * p.numel() for p in attention.parameters()) + 10_000


def test_dropout_of_weights_that_are_never_formed_is_refused():
    with pytest.raises(ValueError, match=r"dropout 0.1 drops single weights, and Proportional never forms them; use"):
        SelfAttention(DIM, HEADS, score=KernelFeatures(), normalizer=Proportional(), dropout=0.1)


def test_bad_arguments_are_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match="num_heads 4 does not divide dim 35; use one of 1, 5, 7, 35"):
        SelfAttention(35, 4)
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, got 1"):
        SelfAttention(35, 5, dropout=1)
    with pytest.raises(ValueError, match=r"12 tokens do not fill Grid\(.*\), which has 13"):
        SelfAttention(35, 5)(torch.randn(2, 12, 35), GRID)
