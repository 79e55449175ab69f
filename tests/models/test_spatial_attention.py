import itertools

import jsonargparse
import pytest
import torch
from torch import nn

from vitlab.attention import Grid, LearnedPosition, SelfAttention
from vitlab.data import DataModule, Glyphs
from vitlab.models import ResNet, ResNetShape, SpatialAttention
from vitlab.training import AdamW
from vitlab.training.optimizer import warmup_cosine

SHAPE = ResNetShape(depths=[1, 2, 1], widths=[9, 24, 15])


def attention(dim):
    return SelfAttention(dim, num_heads=3)


def make(**options):
    torch.manual_seed(0)
    return ResNet(**{"image_size": 12, "num_classes": 7, "size": SHAPE} | options)


def images(height=12, width=20):
    return torch.randn(5, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_it_adds_what_each_place_gathers_times_the_gate():
    torch.manual_seed(0)
    block = SpatialAttention(attention(15))
    block.gate.data.fill_(0.7)
    features = torch.randn(2, 15, 5, 7)
    weights = block.attention.qkv, block.attention.projection
    queries, keys, values = weights[0](features.permute(0, 2, 3, 1)).chunk(3, dim=-1)  # (batch, rows, columns, dim)
    expected = torch.empty_like(features)
    for row in range(5):
        for column in range(7):
            seen = []
            for head in range(3):
                part = slice(5 * head, 5 * head + 5)
                scores = (queries[:, row, column, None, None, part] * keys[..., part]).sum(-1) / 5**0.5
                shares = scores.flatten(1).softmax(1).unflatten(1, (5, 7))
                seen.append((shares[..., None] * values[..., part]).sum((1, 2)))
            expected[:, :, row, column] = features[:, :, row, column] + 0.7 * weights[1](torch.cat(seen, dim=-1))
    torch.testing.assert_close(block(features), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3, None])
def test_with_the_gate_at_its_start_the_net_is_the_plain_resnet(stage):
    plain, gated = make(), make(attention=attention, attention_stage=stage)
    stage = stage or 3
    place = f"stages.{stage - 1}.{SHAPE.depths[stage - 1]}."
    added = set(gated.state_dict()) - set(plain.state_dict())
    assert f"{place}gate" in added
    assert all(name.startswith(place) for name in added)
    # Equal seeds start all other weights alike, and training statistics too.
    for train in (True, False):
        assert torch.equal(plain.train(train)(images()), gated.train(train)(images()))


def test_a_plain_resnets_weights_load_and_keep_its_logits():
    plain = make().eval()
    gated = ResNet(image_size=12, num_classes=7, size=SHAPE, attention=attention).eval()
    missing, unexpected = gated.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("stages.2.1.") for name in missing)
    assert torch.equal(plain(images()), gated(images()))


def test_the_gate_learns_first_and_then_what_is_behind_it():
    model = make(attention=attention, attention_stage=2)
    block = model.stages[1][-1]
    model(images()).square().sum().backward()
    assert block.gate.grad != 0
    assert all((p.grad == 0).all() for p in block.attention.parameters())
    block.gate.data.fill_(0.1)
    model(images()).square().sum().backward()
    assert all((p.grad != 0).any() for p in block.attention.parameters())


def test_an_open_gate_lets_a_place_see_one_out_of_a_convolutions_reach():
    """With one stage of one block, a place of the plain net sees 3 pixels far at most."""
    size = ResNetShape(depths=[1], widths=[9])
    seen = {}
    for name, make_attention in (("plain", None), ("gated", attention)):
        model = make(size=size, attention=make_attention).eval()
        nn.init.ones_(model.stages[0][0].norm2.weight)
        if make_attention:
            model.stages[0][-1].gate.data.fill_(1.0)
        inputs = images(12, 20).requires_grad_()
        model.forward_features(inputs)[:, :, 0, 0].sum().backward()
        seen[name] = inputs.grad.abs().sum((0, 1)) > 0
    assert seen["plain"].nonzero().max() == 3
    assert seen["gated"].all()


@pytest.mark.parametrize(("stage", "grid"), [(1, (11, 18)), (2, (6, 9)), (3, (3, 5))])
def test_the_position_is_told_the_grid_of_its_stage(stage, grid):
    class Told(SelfAttention):
        def set_grid(self, grid):
            self.told = grid

    model = make(image_size=(11, 18), attention=lambda dim: Told(dim, 1), attention_stage=stage)
    told = model.stages[stage - 1][-1].attention.told
    assert (told.height, told.width) == grid
    features = model.stem(images(11, 18))
    for blocks in model.stages[:stage]:
        features = blocks(features)
    assert features.shape[-2:] == grid


def test_bottlenecks_give_attention_all_their_channels():
    model = make(size=ResNetShape([1, 1], [8, 24], "bottleneck"), attention=attention)
    assert model.stages[1][-1].attention.qkv.in_features == 96
    assert model(images()).shape == (5, 7)


def test_positions_inside_are_not_pulled_to_zero():
    position = LearnedPosition(15, Grid(3, 3))
    model = make(attention=lambda dim: SelfAttention(dim, 3, position=position))
    groups = AdamW(weight_decay=0.3).build(model, 1e-3).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    block = model.stages[2][-1]
    assert all(decay[id(parameter)] == 0 for parameter in [*block.attention.position.parameters(), block.gate])
    assert decay[id(block.attention.qkv.weight)] == 0.3
    assert make().no_weight_decay() == set()


def test_a_config_may_choose_the_attention_and_its_stage():
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "model")
    config = """
        model:
          class_path: vitlab.models.ResNet
          init_args:
            image_size: 12
            size: {depths: [1, 2, 1], widths: [8, 24, 16]}
            attention: {class_path: vitlab.attention.SelfAttention, init_args: {num_heads: 3, qk_norm: true}}
            attention_stage: 2
    """
    model = parser.instantiate(parser.parse_string(config)).model
    assert model.stages[1][-1].attention.num_heads == 3
    assert isinstance(model.stages[1][-1].attention.query_norm, nn.LayerNorm)


@pytest.mark.parametrize("stage", [0, -1, 4])
def test_a_stage_that_is_not_there_is_refused(stage):
    with pytest.raises(ValueError, match=f"attention_stage {stage} is not there; use 1 to 3, or null for the last"):
        make(attention=attention, attention_stage=stage)


@pytest.mark.slow
def test_it_learns_a_relation_that_the_plain_resnet_does_not_see():
    accuracy = {}
    gated = {"attention": lambda dim: SelfAttention(dim, 4), "attention_stage": 2}
    for name, options in {"plain": {}, "gated": gated}.items():
        data = DataModule(Glyphs("relational", num_train=3000), train_size=2000, val_size=1000, batch_size=64)
        model = make(image_size=16, num_classes=2, size="micro", **options)
        optimizer = AdamW().build(model, 1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, 40, 400))
        batches = itertools.chain.from_iterable(data.train_dataloader() for _ in range(13))
        for batch, labels in itertools.islice(batches, 400):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.normalize(batch)), labels).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        right = [(model(data.normalize(batch)).argmax(1) == labels).float() for batch, labels in data.val_dataloader()]
        accuracy[name] = torch.cat(right).mean().item()
    assert accuracy["gated"] > 0.95
    assert accuracy["plain"] < 0.6
