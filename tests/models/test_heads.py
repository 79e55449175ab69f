from functools import partial

import pytest
import torch
from timm.layers import AttentionPoolLatent
from torch import nn

from vitlab.attention import Grid, SinCos2D
from vitlab.models import ClassifierHead, DenseHead, TranscriptionHead, ViT, ViTShape
from vitlab.models.heads import AttentionPooling

POOLINGS = ("class_token", "mean", "mean_then_norm", "attention")
DIM, GRID = 11, Grid(1, 5, num_prefix_tokens=3)


def head_with_random_norm(pooling, num_classes=7):
    head = ClassifierHead(DIM, num_classes, pooling=pooling, num_heads=1)
    torch.nn.init.normal_(head.norm.weight)
    torch.nn.init.normal_(head.norm.bias)
    return head


def poolings_and_other_heads():
    heads = {pooling: head_with_random_norm(pooling) for pooling in POOLINGS}
    return heads | {"dense": DenseHead(DIM, 7, patch_size=2), "transcription": TranscriptionHead(DIM, 7)}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_the_classifier_of_the_pooled_vector(pooling):
    head, tokens = head_with_random_norm(pooling), torch.randn(2, 3 + 5, DIM)
    assert head(tokens, GRID).shape == (2, 7)
    torch.testing.assert_close(head(tokens, GRID), head.classifier(head.pool(tokens, GRID)))


@pytest.mark.parametrize(
    ("pooling", "read"),
    [("class_token", [0]), ("mean", range(3, 8)), ("mean_then_norm", range(3, 8)), ("attention", range(3, 8))],
)
def test_pooling_reads_the_class_token_or_the_patches(pooling, read):
    tokens = torch.randn(2, 8, DIM, requires_grad=True)
    (gradient,) = torch.autograd.grad(head_with_random_norm(pooling).pool(tokens, GRID).square().sum(), tokens)
    assert set(gradient.abs().sum((0, 2)).nonzero().flatten().tolist()) == set(read)


def test_only_pooling_by_class_token_asks_the_model_for_one():
    counts = {name: head.num_class_tokens for name, head in poolings_and_other_heads().items()}
    assert counts == dict.fromkeys(counts, 0) | {"class_token": 1}


def test_the_order_of_patches_does_not_matter_to_a_pooling():
    tokens, order = torch.randn(2, 8, DIM), torch.cat([torch.arange(3), 3 + torch.randperm(5)])
    for pooling in POOLINGS[1:]:
        head = head_with_random_norm(pooling)
        torch.testing.assert_close(head(tokens, GRID), head(tokens[:, order], GRID), atol=1e-5, rtol=1e-5)


def test_norm_before_and_after_the_average_differ():
    tokens = torch.randn(2, 8, DIM) * torch.arange(1, 9)[:, None]
    before, after = head_with_random_norm("mean"), head_with_random_norm("mean_then_norm")
    after.load_state_dict(before.state_dict())
    assert not torch.allclose(before(tokens, GRID), after(tokens, GRID), atol=1e-2)


@pytest.mark.parametrize("make", [ClassifierHead, DenseHead, TranscriptionHead])
def test_no_classes_give_what_the_classifier_would_see(make):
    head, tokens = make(DIM, 0), torch.randn(2, 8, DIM)
    assert torch.equal(head(tokens, GRID), head.pool(tokens, GRID))


@pytest.mark.parametrize("pooling", POOLINGS[:3])
def test_the_names_of_the_weights_are_those_of_earlier_checkpoints(pooling):
    expected = {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}
    assert set(ClassifierHead(DIM, 7, pooling=pooling).state_dict()) == expected


def test_the_learned_query_is_kept_from_weight_decay():
    head = head_with_random_norm("attention")
    assert head.no_weight_decay() == {"attention.query"}
    assert head.no_weight_decay() <= set(dict(head.named_parameters()))


@pytest.mark.parametrize("name", poolings_and_other_heads())
def test_padding_never_changes_a_result(name):
    """An image of 3 x 5 patches, alone and in the corner of a 4 x 7 canvas whose other tokens hold anything."""
    head, small, canvas = poolings_and_other_heads()[name], Grid(3, 5, 2), Grid(4, 7, 2)
    inside = (canvas.coordinates() < torch.tensor([3, 5])).all(dim=1)
    visible = torch.cat([torch.ones(2, dtype=torch.bool), inside])
    tokens = torch.randn(2, small.num_tokens, DIM, requires_grad=True)
    padded = 100 * torch.randn(2, canvas.num_tokens, DIM)
    padded[:, visible] = tokens
    shown = visible.expand(2, -1)
    alone, result = head(tokens, small), head(padded, canvas, shown)
    if name == "dense":
        assert (result[..., 6:, :] == 0).all()
        assert (result[..., 10:] == 0).all()
        result = result[..., :6, :10]
    if name == "transcription":  # the rest says blank, with certainty
        chances = result[:, 5:].softmax(dim=-1)
        assert torch.equal(chances, torch.eye(8)[7].expand(2, 2, 8))
        result = result[:, :5]
    torch.testing.assert_close(result, alone, atol=1e-5, rtol=1e-5)
    mine, theirs = (torch.autograd.grad(out.square().sum(), tokens, retain_graph=True)[0] for out in (result, alone))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", poolings_and_other_heads())
def test_all_visible_is_the_same_as_no_mask(name):
    head, tokens = poolings_and_other_heads()[name], torch.randn(2, 3 + 15, DIM)
    grid, visible = Grid(3, 5, 3), torch.ones(2, 18, dtype=torch.bool)
    torch.testing.assert_close(head(tokens, grid, visible), head(tokens, grid), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "cut"),
    [
        *((partial(ClassifierHead, pooling=pooling), ...) for pooling in POOLINGS),
        (DenseHead, (slice(None), slice(6), slice(10))),
        (TranscriptionHead, slice(5)),
    ],
)
def test_an_image_gives_the_same_alone_and_among_larger_ones(head, cut):
    torch.manual_seed(0)
    shape = ViTShape(dim=12, depth=2, num_heads=3, mlp_dim=13)
    model = ViT((6, 10), 7, in_channels=2, patch_size=2, size=shape, head=head, position=SinCos2D).eval()
    small, large = torch.randn(2, 6, 10), torch.randn(2, 14, 22)
    together, alone = model([small, large])[0], model(small[None])[0]
    torch.testing.assert_close(together[cut], alone, atol=1e-5, rtol=1e-5)


def copied_pooling(dim=15, num_heads=5):
    """Ours and timm's with the same weights."""
    theirs = AttentionPoolLatent(dim, num_heads=num_heads, mlp_ratio=4, norm_layer=nn.LayerNorm)
    ours = AttentionPooling(dim, num_heads)
    ours.query.data.copy_(theirs.latent.data)
    pairs = [(ours.to_query, theirs.q), (ours.to_keys_and_values, theirs.kv), (ours.projection, theirs.proj)]
    pairs += [(ours.norm, theirs.norm), (ours.mlp[0], theirs.mlp.fc1), (ours.mlp[2], theirs.mlp.fc2)]
    for mine, yours in pairs:
        torch.nn.init.normal_(yours.bias)
        mine.load_state_dict(yours.state_dict())
    ours.norm.eps = theirs.norm.eps
    return ours, theirs


def test_attention_pooling_equals_that_of_timm():
    ours, theirs = copied_pooling()
    tokens = torch.randn(2, 7, 15)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)
    visible = torch.rand(2, 7) > 0.4
    visible[:, 0] = True
    expected = theirs(tokens, visible[:, None, None, :])
    torch.testing.assert_close(ours(tokens, visible), expected, atol=1e-5, rtol=1e-5)


def test_attention_pooling_is_torchs_multihead_attention_with_one_query():
    ours, _ = copied_pooling()
    reference = nn.MultiheadAttention(15, 5, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([ours.to_query.weight, ours.to_keys_and_values.weight]))
        reference.in_proj_bias.copy_(torch.cat([ours.to_query.bias, ours.to_keys_and_values.bias]))
        reference.out_proj.load_state_dict(ours.projection.state_dict())
        ours.mlp[2].weight.zero_()
        ours.mlp[2].bias.zero_()
    tokens = torch.randn(2, 7, 15)
    expected = reference(ours.query.expand(2, -1, -1), tokens, tokens, need_weights=False)[0][:, 0]
    torch.testing.assert_close(ours(tokens), expected, atol=1e-5, rtol=1e-5)


def test_each_pixel_is_labeled_by_its_own_patch_and_place_in_it():
    """Row 5, column 4 of the image is row 2, column 1 of the patch in row 1, column 1 of the grid."""
    head, grid = DenseHead(DIM, 7, patch_size=3), Grid(2, 5, num_prefix_tokens=1)
    tokens = torch.randn(2, grid.num_tokens, DIM)
    logits = head(tokens, grid)
    assert logits.shape == (2, 7, 6, 15)
    scores = head.classifier(head.norm(tokens[:, 1 + 1 * 5 + 1])).unflatten(1, (7, 3, 3))
    torch.testing.assert_close(logits[:, :, 5, 4], scores[:, :, 2, 1])


def test_each_step_is_a_column_of_patches_from_left_to_right():
    head, grid = TranscriptionHead(DIM, 7), Grid(3, 5, num_prefix_tokens=2)
    tokens = torch.randn(2, grid.num_tokens, DIM)
    logits = head(tokens, grid)
    assert logits.shape == (2, 5, 7 + 1)
    column = tokens[:, [2 + 1, 2 + 5 + 1, 2 + 10 + 1]]
    torch.testing.assert_close(logits[:, 1], head.classifier(head.norm(column).mean(dim=1)))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (ClassifierHead, (DIM, 7, 1, "max"), "unknown pooling 'max'; use one of class_token, mean, .*attention"),
        (ClassifierHead, (DIM, -1), "num_classes must be 1 or more .* got -1"),
        (ClassifierHead, (0, 7), "dim must be 1 or more, got 0"),
        (
            ClassifierHead,
            (12, 7, 1, "attention", 5),
            "num_heads 5 does not divide dim 12; use one of 1, 2, 3, 4, 6, 12",
        ),
        (DenseHead, (DIM, 7, 0), "patch_size must be 1 or more, got 0"),
        (TranscriptionHead, (DIM, -1), "num_classes must be 1 or more"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)
