import pytest
import torch

from vitlab.attention import Grid, SelfAttention
from vitlab.models import Block

DIM, GRID = 35, Grid(2, 3)


def make(**options):
    return Block(DIM, SelfAttention(DIM, 5), mlp_dim=13, **options)


def test_a_block_is_two_residual_branches():
    block, tokens = make(), torch.randn(2, 6, DIM)
    middle = tokens + block.attention(block.attention_norm(tokens), GRID)
    expected = middle + block.mlp(block.mlp_norm(middle))
    torch.testing.assert_close(block(tokens, GRID), expected)


def test_layer_scale_starts_both_branches_small():
    torch.manual_seed(0)
    plain, tokens = make(), torch.randn(2, 6, DIM)
    scaled = make(layer_scale=0.1)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    change = plain.attention(plain.attention_norm(tokens), GRID)
    middle = tokens + 0.1 * change
    expected = middle + 0.1 * plain.mlp(plain.mlp_norm(middle))
    torch.testing.assert_close(scaled(tokens, GRID), expected)
    gains = [p for name, p in scaled.named_parameters() if "gain" in name]
    assert len(gains) == 2
    assert all((gain == 0.1).all() for gain in gains)


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_dropout_and_drop_path_act_in_training_alone(option):
    torch.manual_seed(0)
    block, tokens = make(**{option: 0.5}), torch.randn(17, 6, DIM)
    plain = make().eval()
    plain.load_state_dict(block.state_dict())
    assert not torch.allclose(block(tokens, GRID), plain(tokens, GRID))
    torch.testing.assert_close(block.eval()(tokens, GRID), plain(tokens, GRID))


def test_drop_path_skips_whole_branches_of_single_images():
    torch.manual_seed(0)
    block, tokens = make(drop_path=0.5), torch.randn(67, 6, DIM)
    untouched = (block(tokens, GRID) == tokens).all(-1)
    assert torch.equal(untouched.any(1), untouched.all(1))
    assert 4 < untouched.all(1).sum() < 32  # a quarter skip both branches


def test_the_mlp_treats_every_token_alike():
    block, tokens = make(), torch.randn(2, 6, DIM)
    torch.testing.assert_close(block.mlp(tokens)[:, 4], block.mlp(tokens[:, 4]))
