"""Any other network: timm's models behind vitlab's constructor words (image_size, num_classes, in_channels).

timm: Wightman, https://github.com/huggingface/pytorch-image-models. Weights come from timm's hub, or from a local
file where there is no network, as on many compute nodes.
"""

import difflib
import os
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
PROBE_SECONDS = 3.5  # timm itself would retry for three quarters of a minute before it gives up


class TimmModel(nn.Module):
    """A model from timm by its name.

    Args:
        name: timm's name, such as resnet50 or vit_base_patch16_224.augreg_in21k (see timm.list_models()).
        image_size: Side of the images in pixels, or [height, width]; handed to models that are made for one size.
        num_classes: Classes, 1 or more; 0 gives the pooled vector instead of logits.
        in_channels: Channels of an image: 3 for RGB, 1 for gray.
        pretrained: Whether to start from timm's published weights, from the local cache or else the network.
        weights: A local weights file to start from (.safetensors or .pth); needs no network.
        model_options: More options of that timm model, such as drop_path_rate (in YAML: under dict_kwargs).

    Shape: images (batch, in_channels, height, width) to logits (batch, classes).

    Raises:
        ValueError: An unknown name, weights that do not fit, or both weights and pretrained.
        FileNotFoundError: No such weights file.
        ConnectionError: Published weights are not in the cache and cannot be fetched.
    """

    def __init__(
        self,
        name: str,
        image_size: int | tuple[int, int],
        num_classes: int,
        in_channels: int = 3,
        pretrained: bool = False,
        weights: str | None = None,
        **model_options: Any,
    ) -> None:
        super().__init__()
        if pretrained and weights is not None:
            raise ValueError("give either pretrained: true or a weights file, not both")
        _check_file(weights)
        config = _published_config(name)
        options = {"num_classes": num_classes, "in_chans": in_channels, **model_options}
        file = Path(weights) if weights is not None else None
        if pretrained:
            file = _cached_file(name, config)
        if file is not None:
            self.model = _create_from_file(name, image_size, options, file, say=weights is not None)
        else:
            if pretrained:
                _check_network(name, config)
            self.model = _create(name, image_size, options | {"pretrained": pretrained})

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Shape: (batch, in_channels, height, width) to (batch, classes).
        """
        return self.model(images)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that timm's author keeps from weight decay."""
        listed = getattr(self.model, "no_weight_decay", set)()  # which may name what this variant lacks
        return {f"model.{name}" for name, _ in self.model.named_parameters() if name in listed}

    def input_and_output_layers(self) -> set[str]:
        """Return the names of the parameters of the first layer and the last, which are no hidden layers.

        Raises:
            ValueError: timm's description of the model does not name its first layer.
        """
        config, names = self.model.pretrained_cfg, [name for name, _ in self.named_parameters()]
        first, last = (_prefixes(config.get(part)) for part in ("first_conv", "classifier"))
        if not any(name.startswith(first) for name in names):
            raise ValueError(
                f"timm does not say which layer of {config.get('architecture', 'this model')} is the first, and Muon "
                "is for the layers between the first and the last; use vitlab.training.AdamW"
            )
        return {name for name in names if name.startswith(first + last)}


def _prefixes(layers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return how the names of the parameters of these layers of timm's model begin."""
    return tuple(f"model.{layer}." for layer in ([layers] if isinstance(layers, str) else layers or ()))


def _create(name: str, image_size: int | tuple[int, int], options: dict[str, Any]) -> nn.Module:
    """Make the model; tell it the image size only if it is made for one (a ResNet is not)."""
    import timm  # here, because importing timm takes seconds

    try:
        return timm.create_model(name, img_size=image_size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return timm.create_model(name, **options)


def _create_from_file(
    name: str, image_size: int | tuple[int, int], options: dict[str, Any], file: Path, say: bool
) -> nn.Module:
    """Make the model with a file's weights; a classifier for other classes starts anew."""
    from timm.models import load_state_dict

    fresh = _create(name, image_size, options)
    start = fresh.state_dict()
    state = load_state_dict(str(file), weights_only=True)
    layers = fresh.pretrained_cfg.get("classifier") or ()
    for layer in (layers,) if isinstance(layers, str) else layers:
        for key in (f"{layer}.weight", f"{layer}.bias"):
            found = state.pop(key, None)
            if key not in start:
                continue
            fits = found is not None and found.shape == start[key].shape
            state[key] = found if fits else start[key]
            if say and not fits and key.endswith(".weight"):
                had = "no classifier" if found is None else f"a classifier for {len(found)} classes"
                warnings.warn(f"{file} has {had}: {name}'s starts anew, for {len(start[key])}", stacklevel=3)
    # timm's own loader, because it resizes position tables and adapts the first layer to other channels; all keys must
    # match, which it only insists on when the number of classes is the published one.
    overlay = {"state_dict": state, "num_classes": options["num_classes"], "custom_load": False, "label_offset": 0}
    try:
        return _create(name, image_size, options | {"pretrained": True, "pretrained_cfg_overlay": overlay})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = " ".join(lines[1:3] or lines)[:300].rstrip(".")
        raise ValueError(
            f"{file} does not hold weights that fit {name}: {problem}. Use a file saved from this timm model"
        ) from error


def _check_file(weights: str | None) -> None:
    if weights is None:
        return
    if not weights.endswith(WEIGHT_SUFFIXES):
        raise ValueError(f"weights {weights!r} must be a file that ends in {' or '.join(WEIGHT_SUFFIXES)}")
    if not Path(weights).is_file():
        raise FileNotFoundError(f"there is no weights file {weights!r} (looked in {Path.cwd()})")


def _published_config(name: str) -> Any:
    """Return timm's description of the weights, or say which names are close."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        advice = f"did you mean {', '.join(close)}?" if close else "timm.list_models() gives all names"
        raise ValueError(f"timm has no model {name!r}; {advice}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
        known = ", ".join(filter(None, tags)) or "none"
        raise ValueError(f"timm has no weights tagged {tag!r} for {architecture}; it has: {known}") from error


def _cached_file(name: str, config: Any) -> Path | None:
    """Return the published weights' file if an earlier download left it here."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    if config is None or not (config.hf_hub_id or config.url):
        raise ValueError(f"timm publishes no weights for {name!r}; set pretrained to false, or give a weights file")
    if config.hf_hub_id:
        # A fork of one file name per repository: safetensors is what timm asks for first.
        for file_name in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(config.hf_hub_id, file_name) if file_name else None
            if isinstance(found, str):
                return Path(found)
        return None
    file = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(config.url))
    return file if file.is_file() else None


def _check_network(name: str, config: Any) -> None:
    """Raise within seconds when published weights cannot be fetched."""
    from huggingface_hub import constants

    address = constants.ENDPOINT if config.hf_hub_id else config.url
    offline = config.hf_hub_id and constants.HF_HUB_OFFLINE
    problem = "HF_HUB_OFFLINE is set" if offline else _probe(address)
    if problem:
        raise ConnectionError(
            f"pretrained: true needs {name}'s weights, which are not in the local cache, and {address} does not answer "
            f"({problem}). Download them on a machine with a network and pass weights: FILE, or set pretrained to false"
        )


def _probe(address: str) -> str | None:
    """Return why an address cannot be reached, or None when it answers anything at all."""
    problems = ["no answer"]

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            problems.clear()
        except urllib.error.HTTPError:
            problems.clear()  # a refusal is an answer
        except OSError as error:
            problems[0] = str(getattr(error, "reason", error))

    # In a thread, because looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return problems[0] if problems else None
