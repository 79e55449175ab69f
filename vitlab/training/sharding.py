"""One model over many processes: fully sharded data parallelism (FSDP2), and the whole model back from its shares.

Each process keeps a share of every weight, its gradient and its optimizer state, and borrows the rest of a block only
while that block computes: Zhao et al., arXiv 2304.11277; Rajbhandari et al. (ZeRO), arXiv 1910.02054, section 5.3.
"""

from collections import Counter

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from vitlab.data.subsets import random_words

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # SyncBatchNorm is none of them


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Give each process its share of the weights, block by block; a second call does nothing.

    Args:
        model: What to share; the first process's weights are taken.
        mesh: The processes. All of them share the images too, so its shape does not matter, only its size.

    Raises:
        ValueError: The model has BatchNorm, whose running statistics would differ from process to process.
    """
    if isinstance(model, FSDPModule):
        return
    if has_batch_norm(model):
        raise ValueError(
            "a sharded model cannot have BatchNorm, because each process would keep statistics of its own; use a model "
            "without it (for vitlab's ResNet: norm: group), or trainer.strategy: ddp"
        )
    processes = init_device_mesh(mesh.device_type, (mesh.size(),))
    _copy_from_first_process(model)
    for block in repeated_blocks(model):
        fully_shard(block, mesh=processes)
    fully_shard(model, mesh=processes)  # what is in no block


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that a deep model is a stack of, such as a ViT's or a ResNet's; none contains another.

    A block is an item of a Sequential or ModuleList that has parts and weights of its own, and of whose class there are
    several; where such items are themselves made of blocks (the stages of timm's models), it is those.
    """
    items = [
        item
        for container in model.modules()
        if isinstance(container, _CONTAINERS)
        for item in container
        if not isinstance(item, _CONTAINERS) and any(item.children()) and any(True for _ in item.parameters())
    ]
    counts = Counter(type(item) for item in items)
    blocks = {item: None for item in items if counts[type(item)] > 1}  # a set that keeps the order
    return [block for block in blocks if not any(part in blocks for part in block.modules() if part is not block)]


def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return all weights and buffers whole and on the CPU, as one process would have them.

    All processes of a training must call it at the same time, and each gets all of it.

    Args:
        module: A model or LightningModule, sharded or not.
    """
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        for name, value in module.state_dict().items()
    }


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model has BatchNorm that knows only one process's share of the batch (SyncBatchNorm knows all)."""
    return any(isinstance(part, _BATCH_NORMS) for part in model.modules())


def differ_by_rank(rank: int) -> None:
    """Start the random numbers of dropout and MixUp anew, or all processes would draw the same ones.

    Args:
        rank: Number of this process; the first goes on as it was.
    """
    if rank:
        torch.manual_seed(int(random_words(1, torch.initial_seed() % 2**64, f"training of rank {rank}")[0]))


def _copy_from_first_process(model: nn.Module) -> None:
    """Overwrite what each process started from; without a seed, each has drawn weights of its own."""
    for tensor in model.state_dict().values():
        distributed.broadcast(tensor, src=0)
