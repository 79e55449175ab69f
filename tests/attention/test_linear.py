import pytest
import torch

from vitlab.attention import All, Causal, Grid, KernelFeatures, Proportional, RecurrentAttention, SelfAttention
from vitlab.attention.linear import CHUNK, empty_state, gather_causally, gather_linearly, linear_step

BATCH, HEADS, FEATURES, WIDTH = 2, 3, 5, 7


def example(num_tokens):
    queries, keys = torch.rand(BATCH, HEADS, num_tokens, FEATURES), torch.rand(BATCH, HEADS, num_tokens, FEATURES)
    return queries, keys, torch.randn(BATCH, HEADS, num_tokens, WIDTH)


def by_weights(queries, keys, values, mask):
    weights = (queries @ keys.transpose(-2, -1)) * mask
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30) @ values


@pytest.mark.parametrize("num_tokens", [1, 11, CHUNK, 2 * CHUNK + 3])
def test_parallel_equals_recurrent(num_tokens):
    queries, keys, values = example(num_tokens)
    state, outputs = empty_state(BATCH, HEADS, FEATURES, WIDTH, like=values), []
    for token in range(num_tokens):
        state, output = linear_step(state, queries[:, :, token], keys[:, :, token], values[:, :, token])
        outputs.append(output)
    torch.testing.assert_close(gather_causally(queries, keys, values), torch.stack(outputs, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_open", [0, 1, 3])
def test_the_causal_form_is_that_of_its_weights(num_open):
    queries, keys, values = example(CHUNK + 5)
    mask = torch.ones(CHUNK + 5, CHUNK + 5).tril()
    mask[:num_open, :num_open] = 1
    expected = by_weights(queries, keys, values, mask)
    torch.testing.assert_close(gather_causally(queries, keys, values, num_open), expected, atol=1e-5, rtol=1e-5)


def test_padding_is_left_out_and_a_token_that_sees_nobody_gathers_zeros():
    queries, keys, values = example(11)
    visible = torch.rand(BATCH, 11) > 0.4
    visible[1] = False
    expected = by_weights(queries, keys, values, visible[:, None, None].float())
    torch.testing.assert_close(gather_linearly(queries, keys, values, visible), expected, atol=1e-5, rtol=1e-5)
    assert (gather_linearly(queries, keys, values, visible)[1] == 0).all()
    causal = by_weights(queries, keys, values, visible[:, None, None] * torch.ones(11, 11).tril())
    torch.testing.assert_close(gather_causally(queries, keys, values, 0, visible), causal, atol=1e-5, rtol=1e-5)


def linear_attention(pattern, qk_norm=False):
    return SelfAttention(21, 3, score=KernelFeatures(), normalizer=Proportional(), pattern=pattern, qk_norm=qk_norm)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_causal_linear_layer_is_an_rnn(qk_norm):
    parallel = linear_attention(Causal(), qk_norm)
    tokens = torch.randn(2, 77, 21)
    torch.testing.assert_close(
        RecurrentAttention(parallel)(tokens), parallel(tokens, Grid(7, 11)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("pattern", [All(), Causal()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_many_tokens_fit_half_precision(pattern, dtype):
    attention, tokens, grid = linear_attention(pattern), torch.randn(1, 4096, 21), Grid(64, 64)
    expected = attention(tokens, grid) - attention.projection.bias
    with torch.autocast("cpu", dtype):
        found = attention(tokens, grid).float() - attention.projection.bias
    torch.testing.assert_close(found, expected, atol=0.03 * expected.abs().max().item(), rtol=0)
    if isinstance(pattern, Causal):
        step_by_step = RecurrentAttention(linear_attention(pattern).to(dtype))
        state = step_by_step.start(tokens.to(dtype))
        assert {tensor.dtype for tensor in state} == {torch.float32}
        assert step_by_step.step(state, tokens[:, 0].to(dtype))[1].dtype == dtype


def test_the_rnns_state_does_not_grow():
    rnn = RecurrentAttention(linear_attention(Causal()))
    tokens = torch.randn(2, 77, 21)
    state = rnn.start(tokens)
    shapes = [tensor.shape for tensor in state]
    for token in tokens.unbind(1):
        state, output = rnn.step(state, token)
        assert [tensor.shape for tensor in state] == shapes
        assert output.shape == (2, 21)


def test_the_rnn_shares_weights_and_gradients():
    parallel, tokens = linear_attention(Causal()), torch.randn(2, 15, 21)
    one = torch.autograd.grad(parallel(tokens, Grid(3, 5)).square().mean(), list(parallel.parameters()))
    other = torch.autograd.grad(RecurrentAttention(parallel)(tokens).square().mean(), list(parallel.parameters()))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_what_is_no_rnn_is_refused():
    for attention in (linear_attention(All()), SelfAttention(21, 3, pattern=Causal())):
        with pytest.raises(ValueError, match="use KernelFeatures, Proportional, Causal and NoPosition, got"):
            RecurrentAttention(attention)
