"""Sharding changes no number, finds the blocks of any model, and gives the whole model back."""

import copy
from collections import Counter

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from vitlab.models import RNN, ResNet, TimmModel, ViT
from vitlab.training import AdamW, Muon
from vitlab.training.optimizer import hidden_weights
from vitlab.training.sharding import (
    differ_by_rank,
    full_state_dict,
    has_batch_norm,
    repeated_blocks,
    shard,
)

MODELS = {
    "vit": (lambda: ViT(16, 5, patch_size=4, size="micro"), {"Block": 3}),
    "resnet": (lambda: ResNet(16, 5, size="micro", norm="group"), {"BasicBlock": 3}),
    "rnn": (lambda: RNN(16, 5, patch_size=4, size="micro"), {}),
    "timm_vit": (lambda: TimmModel("test_vit", 16, 5, patch_size=4), {"Block": 6}),
    "timm_convnext": (lambda: TimmModel("test_convnext", 32, 5), {"ConvNeXtBlock": 9}),
}
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def mesh(tmp_path):
    """A process group of this process alone: everything that several would do, without the others."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1, 1))
    distributed.destroy_process_group()


@each_model
def test_the_blocks_of_a_model_are_found(name):
    make, expected = MODELS[name]
    assert Counter(type(block).__name__ for block in repeated_blocks(make())) == expected


@each_model
def test_a_sharded_model_takes_the_same_steps_and_comes_back_whole(name, mesh):
    torch.manual_seed(0)
    model = MODELS[name][0]()
    sharded = copy.deepcopy(model)
    shard(sharded, mesh)
    shard(sharded, mesh)  # Lightning asks again before validation
    assert isinstance(sharded, FSDPModule)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    images = torch.randn(7, 3, 32 if "convnext" in name else 16, 32 if "convnext" in name else 16)
    optimizers = [AdamW().build(either, 0.01) for either in (model, sharded)]
    sizes = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers]
    assert sizes[0] == sizes[1]  # the same weights decay
    for _ in range(2):
        for either, optimizer in zip((model, sharded), optimizers, strict=True):
            either(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    whole = full_state_dict(sharded)
    assert list(whole) == list(model.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(whole[key], value)
        assert type(whole[key]) is torch.Tensor


@each_model
def test_muon_takes_the_same_step_on_shares_of_a_matrix(name, mesh):
    torch.manual_seed(0)
    model = MODELS[name][0]()
    start, sharded = (copy.deepcopy(model) for _ in range(2))
    shard(sharded, mesh)
    for one, share in zip(model.parameters(), sharded.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        share.grad = distribute_tensor(one.grad, share.device_mesh, share.placements)
    for either in (model, sharded):
        Muon().build(either, 0.01).step()
    whole, hidden, before = full_state_dict(sharded), hidden_weights(model), dict(start.named_parameters())
    for key, value in model.named_parameters():
        error = (whole[key] - value).detach().norm() / (value - before[key]).detach().norm()
        assert error < (0.06 if key in hidden else 1e-5), key  # bfloat16, rounded at other places


def test_a_model_that_is_not_sharded_gives_its_state_as_it_is():
    model = ResNet(16, 5, size="micro")
    whole = full_state_dict(model)
    assert all(torch.equal(whole[key], value) for key, value in model.state_dict().items())


def test_batch_norm_is_seen_and_refused_where_its_statistics_would_drift_apart(mesh):
    model = ResNet(16, 5, size="micro")
    assert has_batch_norm(model)
    assert not has_batch_norm(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)))
    assert not has_batch_norm(MODELS["resnet"][0]())
    with pytest.raises(ValueError, match=r"cannot have BatchNorm, .* norm: group\), or trainer\.strategy: ddp"):
        shard(model, mesh)


def test_processes_draw_numbers_of_their_own_from_one_seed():
    draws = []
    for rank in (0, 1, 2, 1):
        torch.manual_seed(7)
        differ_by_rank(rank)
        draws.append(torch.rand(5).tolist())
    torch.manual_seed(7)
    assert draws[0] == torch.rand(5).tolist()
    assert draws[1] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3
