from functools import partial

import jsonargparse
import pytest
import torch
from torch import nn

from vitlab.attention import Grid
from vitlab.data import DataModule, Glyphs
from vitlab.models import RNN, ClassifierHead, ConvStem, LastStateHead, PatchTokenizer, PixelTokenizer, RNNShape, ViT
from vitlab.models.rnn import SIZES
from vitlab.training import AdamW, run

SHAPE = RNNShape(dim=14, depth=2)
MEAN = partial(ClassifierHead, pooling="mean")
each_cell = pytest.mark.parametrize("cell", ["lstm", "gru"])


def make(**options):
    return RNN(**{"image_size": (6, 10), "num_classes": 7, "in_channels": 3, "patch_size": 2, "size": SHAPE} | options)


def images(height=6, width=10):
    return torch.randn(5, 3, height, width, generator=torch.Generator().manual_seed(0))


def run_lstm(tokens, input_weight, hidden_weight, input_bias, hidden_bias):
    """Hochreiter and Schmidhuber with a forget gate, one token after the other."""
    hidden = cell = torch.zeros(len(tokens), hidden_weight.shape[1])
    outputs = []
    for token in tokens.unbind(1):
        gates = token @ input_weight.T + input_bias + hidden @ hidden_weight.T + hidden_bias
        add, keep, new, show = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + add.sigmoid() * new.tanh()
        hidden = show.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs, dim=1)


def run_gru(tokens, input_weight, hidden_weight, input_bias, hidden_bias):
    """Cho et al., one token after the other, with the reset gate after the product as torch has it."""
    hidden = torch.zeros(len(tokens), hidden_weight.shape[1])
    outputs = []
    for token in tokens.unbind(1):
        reset_in, keep_in, new_in = (token @ input_weight.T + input_bias).chunk(3, dim=1)
        reset_of, keep_of, new_of = (hidden @ hidden_weight.T + hidden_bias).chunk(3, dim=1)
        keep = (keep_in + keep_of).sigmoid()
        hidden = keep * hidden + (1 - keep) * (new_in + (reset_in + reset_of).sigmoid() * new_of).tanh()
        outputs.append(hidden)
    return torch.stack(outputs, dim=1)


STEPS = {"lstm": run_lstm, "gru": run_gru}


def weights(model, layer, direction=""):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(model.layers, f"{name}_l{layer}{direction}") for name in names]


@each_cell
def test_it_equals_a_loop_over_the_tokens(cell):
    torch.manual_seed(0)
    model = make(cell=cell)
    tokens = model.tokenizer(images())
    for layer in range(2):
        tokens = STEPS[cell](tokens, *weights(model, layer))
    torch.testing.assert_close(model.forward_features(images()), tokens, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model(images()), model.head.classifier(model.head.norm(tokens[:, -1])))


@each_cell
def test_the_second_direction_is_the_first_on_the_tokens_turned_round(cell):
    torch.manual_seed(0)
    model = make(cell=cell, bidirectional=True, size=RNNShape(dim=14, depth=1))
    tokens = model.tokenizer(images())
    forward = STEPS[cell](tokens, *weights(model, 0))
    backward = STEPS[cell](tokens.flip(1), *weights(model, 0, "_reverse")).flip(1)
    both = torch.cat([forward, backward], dim=2)
    torch.testing.assert_close(model.forward_features(images()), both, atol=1e-6, rtol=1e-5)
    last_states = torch.cat([forward[:, -1], backward[:, 0]], dim=1)  # each has read all tokens
    torch.testing.assert_close(model(images()), model.head.classifier(model.head.norm(last_states)))


def token_gradients(model):
    """How much each token's output depends on each token, (tokens that look, tokens seen)."""
    tokens = torch.randn(1, 11, 14, requires_grad=True)
    outputs = model.layers(tokens)[0]
    rows = [torch.autograd.grad(outputs[0, looker].sum(), tokens, retain_graph=True)[0] for looker in range(11)]
    return torch.stack(rows).abs().sum((1, 3))


@each_cell
def test_one_direction_never_sees_a_later_token(cell):
    gradients = token_gradients(make(cell=cell))
    assert (gradients.triu(diagonal=1) == 0).all()
    assert (gradients.tril() > 0).sum() == 11 * 12 / 2


@each_cell
def test_two_directions_see_every_token(cell):
    assert (token_gradients(make(cell=cell, bidirectional=True)) > 0).all()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("head", [None, MEAN, partial(ClassifierHead, pooling="attention", num_heads=7)])
@pytest.mark.parametrize(("tokenizer", "patch_size"), [(PatchTokenizer, 2), (PixelTokenizer, 1), (ConvStem, 2)])
def test_every_choice_of_parts_gives_logits_for_any_size_and_learns(tokenizer, patch_size, head, bidirectional):
    model = make(tokenizer=tokenizer, patch_size=patch_size, head=head, bidirectional=bidirectional)
    logits = model(images())
    assert logits.shape == (5, 7)
    assert model(images(4, 22)).shape == (5, 7)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and (p.grad != 0).any() for p in model.parameters())


def test_tokens_are_those_of_a_vit_in_row_order():
    torch.manual_seed(0)
    model = make()
    vit = ViT(image_size=(6, 10), num_classes=7, patch_size=2)
    assert type(model.tokenizer) is type(vit.tokenizer)
    first = images().clone()
    first[:, :, :2, 2:4] += 1  # the second patch of the first row
    changed = (model.tokenizer(first) - model.tokenizer(images())).abs().sum((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [1]


@each_cell
def test_it_starts_by_remembering(cell):
    model = make(cell=cell, size=RNNShape(dim=14, depth=3))
    num_gates = len(model.layers.bias_ih_l0) // 14
    for layer in range(3):
        _, hidden_weight, input_bias, hidden_bias = weights(model, layer)
        gates = (input_bias + hidden_bias).reshape(num_gates, 14)
        assert (gates[1] == 1).all()
        assert gates.sum() == 14
        for part in hidden_weight.chunk(num_gates):
            torch.testing.assert_close(part @ part.T, torch.eye(14), atol=1e-5, rtol=0)


def test_a_gru_has_three_quarters_of_an_lstms_weights():
    count = {cell: sum(p.numel() for p in make(cell=cell).layers.parameters()) for cell in ("lstm", "gru")}
    assert count["gru"] * 4 == count["lstm"] * 3


@pytest.mark.parametrize("size", ["micro", "pico"])
def test_an_lstm_has_about_as_many_parameters_as_the_vit_of_its_name(size):
    options = {"image_size": 32, "num_classes": 10, "patch_size": 4, "size": size}
    lstm, vit = (sum(p.numel() for p in model(**options).parameters()) for model in (RNN, ViT))
    assert lstm == pytest.approx(vit, rel=0.06)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_the_table_is_as_wide_and_deep_as_the_vit_of_its_name(size):
    with torch.device("meta"):
        rnn, vit = (model(image_size=32, patch_size=4, size=size) for model in (RNN, ViT))
    assert rnn.layers.hidden_size == vit.blocks[0].mlp.contract.out_features
    assert rnn.layers.num_layers == len(vit.blocks)


def test_dropout_acts_between_layers_in_training_only():
    model = make(size=RNNShape(dim=14, depth=2, dropout=0.5))
    assert not torch.equal(model(images()), model(images()))
    assert torch.equal(model.eval()(images()), model(images()))
    assert make(size=RNNShape(dim=14, depth=1, dropout=0.5)).layers.dropout == 0  # torch would warn: no layer follows


def test_no_classes_give_the_last_state():
    model = make(num_classes=0)
    expected = model.head.norm(model.forward_features(images())[:, -1])
    assert torch.equal(model(images()), expected)


def test_weight_decay_leaves_biases_and_the_heads_query_alone():
    model = make(head=partial(ClassifierHead, pooling="attention", num_heads=7))
    groups = AdamW(weight_decay=0.3).build(model, 1e-3).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(model.layers.weight_hh_l1)] == 0.3
    assert decay[id(model.layers.bias_ih_l0)] == decay[id(model.head.attention.query)] == 0


def test_a_config_may_choose_every_part():
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "model")
    config = """
        model:
          class_path: vitlab.models.RNN
          init_args:
            image_size: [8, 16]
            num_classes: 7
            in_channels: 2
            patch_size: 4
            size: {dim: 14, depth: 3, dropout: 0.1}
            tokenizer: vitlab.models.ConvStem
            cell: gru
            bidirectional: true
            head: {class_path: vitlab.models.ClassifierHead, init_args: {pooling: mean}}
    """
    model = parser.instantiate(parser.parse_string(config)).model
    assert isinstance(model.tokenizer, ConvStem)
    assert isinstance(model.layers, nn.GRU)
    assert (model.layers.num_layers, model.layers.hidden_size, model.head.pooling) == (3, 7, "mean")
    assert model(torch.randn(2, 2, 8, 16)).shape == (2, 7)


def test_classes_channels_and_size_of_the_data_reach_the_model_from_the_command_line():
    # A link to an argument that a class lacks is skipped without a word.
    arguments = ["--data.dataset=vitlab.data.Digits", "--model.backbone=vitlab.models.RNN", "--trainer.accelerator=cpu"]
    size = "--model.backbone.init_args.size=micro"
    model = run.prepare([*arguments, size, "--model.backbone.init_args.patch_size=2"]).model.backbone
    assert model.head.classifier.out_features == 10
    assert model.tokenizer.in_channels == 1
    with pytest.raises(ValueError, match="patch_size 5 does not divide image_size 8"):
        run.prepare([*arguments, size, "--model.backbone.init_args.patch_size=5"])


def test_it_learns_the_generated_glyphs():
    data = DataModule(Glyphs("local", num_train=600, num_test=2), train_size=300, val_size=100, batch_size=50)
    torch.manual_seed(0)
    model = RNN(image_size=16, num_classes=2, patch_size=4, size="micro", bidirectional=True)
    optimizer = AdamW().build(model, 3e-3)
    losses = []
    for _ in range(12):
        for batch, labels in data.train_dataloader():
            loss = nn.functional.cross_entropy(model(data.normalize(batch)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-6:]) / 6 < 0.35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "unknown RNN size 'huge'; use one of micro, pico, compact, or an RNNShape"),
        ({"cell": "elman"}, "unknown cell 'elman'; use one of lstm, gru"),
        ({"bidirectional": True, "size": RNNShape(13, 1)}, "dim must be even, got 13"),
        ({"patch_size": 4}, "patch_size 4 does not divide image_size 6 x 10; use 1 or 2"),
        ({"head": ClassifierHead}, "ClassifierHead wants a class token .* use another pooling"),
        ({"head": partial(LastStateHead, bidirectional=True)}, "for bidirectional=True .* leave the head out"),
        ({"head": LastStateHead, "bidirectional": True}, "for bidirectional=False .* leave the head out"),
        ({"num_classes": -1}, "num_classes must be 1 or more"),
        ({"in_channels": 0}, "must be 1 or more, got 0"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 1), "dim must be 1 or more, got 0"), ((8, 0), "depth must be 1"), ((8, 1, 1.0), "below 1, got 1.0")],
)
def test_bad_shapes_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        RNNShape(*numbers)


def test_a_list_of_images_of_different_sizes_is_refused():
    with pytest.raises(ValueError, match=r"images of one size, .* group the images by size, or use a ViT"):
        make()([torch.randn(3, 6, 10), torch.randn(3, 4, 10)])


def test_the_last_state_refuses_padding():
    head = LastStateHead(14, 7)
    with pytest.raises(ValueError, match="has read every token, padding too"):
        head(torch.randn(2, 5, 14), Grid(1, 5), torch.ones(2, 5, dtype=torch.bool))
