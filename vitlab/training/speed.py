"""What may be done for speed or memory to a model that is there: settings that leave its weights and their names alone.

Each is off by default, because rounding, and with it the last digits of a result, depends on it (recompute excepted).
"""

import importlib.util
import os
import shutil
from dataclasses import dataclass

import torch
from torch import nn

from vitlab.models.convolved_linear import convolve_linears

_MOST_VERSIONS = 128
_CPP_COMPILERS = ("g++", "clang++", "c++", "cl")


@dataclass(frozen=True)
class Speed:
    """How a model is computed; checkpoints, resuming and attention maps work as without.

    Args:
        compile: Compile the model (torch.compile), once for all models of its shape: the first step takes about a
            minute on a CPU, the others of a ResNet a tenth less. Needs a C++ compiler, on a GPU triton as well.
        channels_last: Keep a CNN's weights with the channels last, as the images come: faster convolutions.
        linear_as_convolution: Compute linear layers as 1x1 convolutions; nearly halves a ViT's step on AMD CPUs in
            float32, from a width of about 100 on, and does nothing in bfloat16.
        recompute: Keep only what goes into each block of a ViT, and compute the rest again in the backward pass.

    Raises:
        ValueError: Something is missing that a setting needs; from `apply`.
    """

    compile: bool = False
    channels_last: bool = False
    linear_as_convolution: bool = False
    recompute: bool = False

    def apply(self, model: nn.Module) -> None:
        """Change how a model is computed.

        Args:
            model: The backbone; it is changed.
        """
        if self.recompute:
            if not isinstance(getattr(model, "recompute", None), bool):
                raise ValueError(
                    f"speed.recompute is for vitlab's ViT, and the model is a {type(model).__name__}; leave it out"
                )
            model.recompute = True
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.linear_as_convolution and not convolve_linears(model):
            raise ValueError(f"speed.linear_as_convolution: {type(model).__name__} has no linear layers; leave it out")
        if self.compile:
            _check_compiler()
            # Eight versions of one forward, and torch would go on without compiling: few for a sweep's worker.
            config = torch._dynamo.config
            config.recompile_limit = max(config.recompile_limit, _MOST_VERSIONS)
            model.compile()  # in place: the names of the weights stay as they are


def _check_compiler() -> None:
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else _CPP_COMPILERS
    if not any(shutil.which(name) for name in compilers):
        raise ValueError(
            f"speed.compile needs a C++ compiler, and there is no {' or '.join(compilers)} on the path; install one "
            "(Debian: g++), set CXX to it, or leave speed.compile out"
        )
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        raise ValueError("speed.compile needs triton on a GPU; install it, or leave speed.compile out")
