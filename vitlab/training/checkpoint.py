"""A trained model with all that it takes to show it an image: from a checkpoint of vitlab's, or from timm.

What a model must know of its data (size, channels, normalization, classes) stands in the settings beside a checkpoint:
config.yaml in a run's folder, the trial's record in a sweep's. For timm it is part of the published model.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vitlab.data import DataModule, read_image
from vitlab.data.image_folder import EXTENSIONS
from vitlab.models import TimmModel
from vitlab.training.run import prepare

TIMM = "timm:"
UNTRAINED = "none"
_ON_CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto")


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode and what its images must be.

    Args:
        name: What to call it.
        model: Images to logits.
        image_size: Height and width in pixels.
        in_channels: 3 for RGB, 1 for gray.
        mean: What is subtracted from each channel, in units where white is 1.
        std: What each channel is divided by then.
        class_names: What the outputs stand for; None: unknown.
        data: Where it was trained; None: unknown.
    """

    name: str
    model: nn.Module
    image_size: tuple[int, int]
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None
    data: DataModule | None = None

    def normalize(self, images: Tensor) -> Tensor:
        """Return images as the model takes them.

        Args:
            images: uint8; those of another size are resized.

        Shape: (batch, channels, height, width) to (batch, in_channels, *image_size).

        Raises:
            ValueError: The channels are not the model's.
        """
        if images.shape[1] != self.in_channels:
            raise ValueError(f"{self.name} takes images of {self.in_channels} channels, got {images.shape[1]}")
        values = images.float() / 255
        if tuple(values.shape[-2:]) != self.image_size:
            values = interpolate(values, self.image_size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (values - mean) / std


def load_model(source: str) -> TrainedModel:
    """Load what `vitlab inspect` was asked for.

    Args:
        source: A checkpoint file, or timm:NAME for published weights, timm:NAME=FILE for those in a file, or
            timm:NAME=none for a model before training.

    Raises:
        ValueError: The file is no checkpoint, has no settings beside it, or holds another model's weights; an unknown
            name.
        OSError: There is no such file, or published weights cannot be had.
    """
    if source.startswith(TIMM):
        name, _, weights = source.removeprefix(TIMM).partition("=")
        return _load_timm(name, weights or None)
    return _load_checkpoint(Path(source))


def load_images(
    paths: Sequence[str | Path] | None, models: Sequence[TrainedModel], number: int
) -> tuple[list[str], list[Tensor]]:
    """Return the same images for each of several models, in the size and channels that it takes.

    Args:
        paths: Image files, and folders, of which all image files are taken, those in subfolders too, in order; None:
            the validation images of the data that the first model was trained on.
        models: Who will see them; at least one.
        number: Take the first so many, 1 or more.

    Returns:
        Names, and for each model uint8 images (batch, channels, height, width).

    Raises:
        ValueError: A file cannot be read, there is none, or nobody knows the data.
    """
    if number < 1:
        raise ValueError(f"the number of images is {number}; give 1 or more")
    if not paths:
        names, images = _validation_images(models[0], number)
        return names, [images for _ in models]
    files = [file for path in paths for file in _image_files(Path(path))][:number]
    if not files:
        raise ValueError(f"there is no image in {', '.join(map(str, paths))}; images end in {' '.join(EXTENSIONS)}")
    return [file.name for file in files], [_read(files, trained) for trained in models]


def load_labels(trained: TrainedModel, number: int) -> Tensor | None:
    """Return the classes of the validation images that load_images gives without paths.

    Args:
        trained: The first of its models.
        number: As given there.

    Shape: (batch,), or None where the data's targets are no classes, or nobody knows the data.
    """
    if trained.data is None:
        return None
    _, targets = next(iter(trained.data.val_dataloader()))
    return targets[:number] if targets.ndim == 1 else None


def _validation_images(trained: TrainedModel, number: int) -> tuple[list[str], Tensor]:
    if trained.data is None:
        raise ValueError(f"{trained.name} does not say which data it was trained on; name image files or a folder")
    images, targets = next(iter(trained.data.val_dataloader()))
    names = [f"image {index}" for index in range(1, len(images) + 1)]
    if targets.ndim == 1:
        names = [f"{name}: {trained.class_names[target]}" for name, target in zip(names, targets.tolist(), strict=True)]
    return names[:number], images[:number].contiguous()


def _read(files: Sequence[Path], trained: TrainedModel) -> Tensor:
    height, width = trained.image_size
    images = [_cropped(read_image(file, trained.in_channels, max(height, width)), height, width) for file in files]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # (batch, channels, height, width)


def _load_checkpoint(path: Path) -> TrainedModel:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r} (looked in {Path.cwd()})")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint of vitlab; give a .ckpt that vitlab fit or a sweep wrote") from error
    found, arguments = _settings_beside(path)
    run = prepare([*arguments, *_ON_CPU])
    try:
        run.model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise ValueError(
            f"{path} holds the weights of another model than {found} describes: {' '.join(lines)[:300]}"
        ) from error
    data, model = run.datamodule, run.model.backbone.eval()
    data.prepare_data()
    mean, std = data.channel_statistics
    std = tuple(max(value, 1 / 255) for value in std)  # as DataModule.normalize: a channel that never changes
    name = type(model).__name__
    shape = (*data.image_shape, data.in_channels)
    return TrainedModel(name, model, shape[:2], shape[2], tuple(mean), std, data.class_names, data)


def _settings_beside(path: Path) -> tuple[Path, list[str]]:
    """Return the file that says how a checkpoint was made, and that as arguments of vitlab fit."""
    record = path.parent.parent / "trials" / f"{path.stem}.json"
    if record.is_file():
        arguments = json.loads(record.read_text())["arguments"]
        return record, [argument for argument in arguments if not argument.startswith("--test_after_fit")]
    for folder in list(path.absolute().parents)[:3]:
        config = folder / "config.yaml"
        if config.is_file():
            settings = yaml.safe_load(config.read_text())
            if not isinstance(settings, dict) or not {"data", "model"} <= set(settings):
                raise ValueError(f"{config} is no config of vitlab fit: it has no data and model")
            return config, ["--config", json.dumps({part: settings[part] for part in ("data", "model")})]
    raise ValueError(
        f"nothing beside {path} says which model it is: leave a checkpoint in its run's folder, which holds "
        "config.yaml, or in its sweep's"
    )


def _load_timm(name: str, weights: str | None) -> TrainedModel:
    import timm  # here, because importing timm takes seconds
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:
        config = None  # TimmModel says what is wrong with the name
    channels, height, width = config.input_size if config else (3, 224, 224)
    model = TimmModel(
        name,
        (height, width),
        config.num_classes if config else 1000,
        channels,
        pretrained=weights is None,
        weights=None if weights == UNTRAINED else weights,
    )
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return TrainedModel(name, model.eval(), (height, width), channels, tuple(mean), tuple(std))


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.name.lower().endswith(EXTENSIONS))


def _cropped(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keep the middle of a square image."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
