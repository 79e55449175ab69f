from functools import partial

import jsonargparse
import pytest
import torch
from torch import nn

from vitlab.attention import All, Grid, LearnedPosition, NoPosition, Position, Score, SelfAttention, SinCos2D
from vitlab.models import ClassifierHead, ConvStem, PatchTokenizer, PixelTokenizer, ViT, ViTShape
from vitlab.models.vit import SIZES
from vitlab.training.memory import kept_bytes, peak_bytes

SHAPE = ViTShape(dim=20, depth=2, num_heads=5, mlp_dim=13)


class Learned(Score):
    """A score with a weight that starts at random."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(7))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.gain)

    def forward(self, queries, keys):
        return self.gain.mean() * queries @ keys.transpose(-2, -1)


class Relative(Position):
    """A position with a weight that acts on the scores."""

    def __init__(self, dim=0, grid=None):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))

    def on_scores(self, grid):
        return self.slope * torch.ones(grid.num_tokens, grid.num_tokens)


def make(**options):
    return ViT(**{"image_size": 12, "num_classes": 7, "in_channels": 3, "patch_size": 4, "size": SHAPE} | options)


@pytest.mark.parametrize("pooling", ["class_token", "mean", "mean_then_norm", "attention"])
@pytest.mark.parametrize("position", [LearnedPosition, SinCos2D, NoPosition])
@pytest.mark.parametrize(("tokenizer", "patch_size"), [(PatchTokenizer, 4), (PixelTokenizer, 1), (ConvStem, 4)])
def test_every_choice_of_parts_gives_logits_for_any_size_and_learns(pooling, position, tokenizer, patch_size):
    head = partial(ClassifierHead, pooling=pooling, num_heads=5)
    model = make(head=head, position=position, tokenizer=tokenizer, patch_size=patch_size, in_channels=2)
    logits = model(torch.randn(2, 2, 12, 12))
    assert logits.shape == (2, 7)
    assert model(torch.randn(2, 2, 8, 20)).shape == (2, 7)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_images_need_not_be_square():
    model = make(image_size=(8, 20))
    assert model.position.grid == Grid(2, 5, 1)
    assert model(torch.randn(2, 3, 8, 20)).shape == (2, 7)


@pytest.mark.parametrize("name", SIZES)
def test_every_size_of_the_table_can_be_built(name):
    with torch.device("meta"):
        model = ViT(image_size=32, num_classes=7, patch_size=4, size=name)
    assert len(model.blocks) == SIZES[name].depth


def test_micro_is_the_60k_parameter_model_of_the_generated_data_set():
    model = ViT(image_size=16, num_classes=2, patch_size=4, size="micro")
    assert 55_000 < sum(p.numel() for p in model.parameters()) < 65_000


def test_intermediates_are_what_forward_computes():
    model, images = make(), torch.randn(2, 3, 8, 20)
    result = model.forward_intermediates(images)
    assert result.grid == Grid(2, 5, 1)
    assert result.tokens.shape == (2, 11, 20)
    assert len(result.blocks) == 2
    torch.testing.assert_close(result.blocks[1], model.blocks[1](result.blocks[0], result.grid))
    torch.testing.assert_close(result.logits, model(images))
    torch.testing.assert_close(model.head.classifier(result.pooled), result.logits)


def test_without_positions_the_order_of_patches_does_not_matter():
    images = torch.randn(2, 3, 12, 12)
    patches = images.unflatten(3, (3, 4)).unflatten(2, (3, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    shuffled = patches[:, torch.tensor([4, 0, 7, 8, 2, 1, 5, 3, 6])].unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5)
    shuffled = shuffled.flatten(4, 5).flatten(2, 3)
    model = make(position=NoPosition).eval()
    torch.testing.assert_close(model(images), model(shuffled), atol=1e-5, rtol=1e-5)
    model = make(position=SinCos2D).eval()
    assert not torch.allclose(model(images), model(shuffled), atol=1e-5)


def test_register_tokens_and_class_token_come_before_the_patches():
    model = make(size=ViTShape(**vars(SHAPE) | {"num_register_tokens": 3}), position=NoPosition)
    tokens = model.forward_intermediates(torch.randn(2, 3, 12, 12)).tokens
    assert tokens.shape == (2, 1 + 3 + 9, 20)
    assert torch.equal(tokens[:, :1], model.class_token.expand(2, -1, -1))
    assert torch.equal(tokens[:, 1:4], model.register_tokens.expand(2, -1, -1))


def test_each_block_has_its_own_parts_even_when_handed_the_same_ones():
    model = make(attention=partial(SelfAttention, score=Learned(), position=Relative()))
    first, second = (block.attention for block in model.blocks)
    assert first.score is not second.score
    assert not torch.equal(first.score.gain, second.score.gain)  # and they do not start alike
    assert first.position.slope is not second.position.slope


def test_a_relative_position_before_the_first_block_is_refused():
    with pytest.raises(ValueError, match=r"Relative is a relative position, .* give it to attention"):
        make(position=Relative)


def test_places_and_class_token_are_kept_from_weight_decay():
    model = make(
        size=ViTShape(**vars(SHAPE) | {"num_register_tokens": 3}), attention=partial(SelfAttention, position=Relative())
    )
    slopes = {f"blocks.{index}.attention.position.slope" for index in range(2)}
    expected = {"class_token", "register_tokens", "position.table"} | slopes
    assert model.no_weight_decay() == expected
    assert expected <= set(dict(model.named_parameters()))
    assert make(head=partial(ClassifierHead, pooling="mean"), position=SinCos2D).no_weight_decay() == set()


def recomputing(recompute):
    torch.manual_seed(0)
    shape = ViTShape(dim=24, depth=12, num_heads=3, mlp_dim=58, dropout=0.1, drop_path=0.2, recompute=recompute)
    return ViT(image_size=14, num_classes=5, patch_size=2, size=shape).train()


def test_recomputing_blocks_changes_no_bit_of_logits_and_gradients():
    images = torch.randn(7, 3, 14, 14)
    models = [recomputing(recompute) for recompute in (False, True)]
    logits = []
    for model in models:
        torch.manual_seed(1)  # dropout must draw the same when a block is computed again
        logits.append(model(images))
        logits[-1].pow(2).sum().backward()
    assert torch.equal(*logits)
    for kept, computed_again in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(kept.grad, computed_again.grad)


def test_recomputing_twelve_blocks_more_than_halves_what_is_kept_and_the_peak_of_a_step():
    images = torch.randn(17, 3, 14, 14)
    kept, peak = [], []
    for recompute in (False, True):
        model = recomputing(recompute)
        kept.append(kept_bytes(model, images))
        peak.append(peak_bytes(lambda model=model: model(images).sum().backward()))
    assert kept[1] < 0.5 * kept[0]
    assert peak[1] < 0.5 * peak[0]


def test_drop_path_rises_from_block_to_block():
    model = make(size=ViTShape(dim=20, depth=5, num_heads=5, mlp_dim=13, drop_path=0.4))
    rates = [getattr(block.mlp_branch, "drop_path", None) for block in model.blocks]
    assert rates[0] is None
    assert [round(path.drop_prob, 6) for path in rates[1:]] == [0.1, 0.2, 0.3, 0.4]


def test_linear_layers_start_without_bias_and_with_a_variance_that_fits_their_width():
    torch.manual_seed(0)
    model = make(size=ViTShape(dim=60, depth=2, num_heads=5, mlp_dim=120))
    for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
        assert (linear.bias == 0).all()
        expected = (2 / (linear.in_features + linear.out_features)) ** 0.5
        assert 0.9 * expected < linear.weight.std() < 1.1 * expected


def test_the_same_seed_gives_the_same_model():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(make().state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "hug"}, "unknown ViT size 'hug'; use one of micro, pico, .* or a ViTShape"),
        ({"patch_size": 7}, "patch_size 7 does not divide image_size 12; use 1, 2, 3, 4, 6 or 12"),
        ({"head": partial(ClassifierHead, pooling="max")}, "unknown pooling 'max'"),
        ({"in_channels": 0}, "must be 1 or more"),
        ({"image_size": (12, 10)}, "patch_size 4 does not divide image_size 12 x 10; use 1 or 2"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide dim 20; use one of 1, 2, 4, 5, 10, 20"),
        ({"depth": 0}, "depth must be 1 or more, got 0"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_shapes_are_refused_with_what_is_allowed(change, message):
    with pytest.raises(ValueError, match=message):
        make(size=ViTShape(**vars(SHAPE) | change))


def test_an_image_that_patches_do_not_fill_is_refused_at_run_time():
    with pytest.raises(ValueError, match="patch_size 4 does not divide image_size 13"):
        make()(torch.randn(2, 3, 13, 13))


def from_yaml(text):
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "model")
    return parser.instantiate(parser.parse_string(text)).model


def test_a_config_may_name_a_size():
    model = from_yaml("model: {class_path: vitlab.models.ViT, init_args: {image_size: 16, patch_size: 4, size: micro}}")
    assert model.blocks[0].mlp.expand.out_features == 96
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 1000)


def test_a_config_may_choose_every_part():
    model = from_yaml("""
        model:
          class_path: vitlab.models.ViT
          init_args:
            image_size: [8, 16]
            num_classes: 7
            in_channels: 2
            patch_size: 4
            size: {dim: 20, depth: 2, num_heads: 5, mlp_dim: 13, layer_scale: 0.1}
            tokenizer: vitlab.models.ConvStem
            position: {class_path: vitlab.attention.SinCos2D, init_args: {temperature: 100.0}}
            attention:
              class_path: vitlab.attention.SelfAttention
              init_args: {pattern: vitlab.attention.All, score: vitlab.attention.ScaledDotProduct, qk_norm: true}
            head: {class_path: vitlab.models.ClassifierHead, init_args: {pooling: mean}}
    """)
    assert isinstance(model.tokenizer, ConvStem)
    assert (model.position.temperature, model.position.grid) == (100.0, Grid(2, 4))
    first, second = (block.attention for block in model.blocks)
    assert isinstance(first.pattern, All)
    assert first.pattern is not second.pattern
    assert isinstance(first.query_norm, nn.LayerNorm)
    assert model(torch.randn(2, 2, 8, 16)).shape == (2, 7)


def test_a_config_with_a_wrong_class_is_refused():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "model")
    with pytest.raises(jsonargparse.ArgumentError, match="tokenizer"):
        parser.parse_string("model: {class_path: vitlab.models.ViT, init_args: {tokenizer: torch.nn.Linear}}")
