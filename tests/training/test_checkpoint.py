import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.models import ViT
from vitlab.training import run
from vitlab.training.checkpoint import load_images, load_model

DATA = [
    "--data.dataset=vitlab.data.Glyphs",
    "--data.dataset.init_args.task=relational",
    "--data.dataset.init_args.num_train=80",
    "--data.dataset.init_args.num_test=10",
    "--data.val_size=20",
    "--data.batch_size=20",
]
MODEL = [
    "--model.backbone=vitlab.models.ViT",
    "--model.backbone.init_args.patch_size=4",
    "--model.backbone.init_args.size=micro",
]
TRAINER = ["--trainer.accelerator=cpu", "--trainer.max_steps=1", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A checkpoint of vitlab fit in its run's folder, and the weights that are in it."""
    folder = tmp_path_factory.mktemp("fit")
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.init_args.save_dir={folder}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on so short a run
        run.main("fit", [*DATA, *MODEL, *TRAINER, *logger, "--trainer.enable_model_summary=false"])
    (file,) = folder.rglob("*.ckpt")
    return file


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep's checkpoint: weights alone, with the trial's record in another folder."""
    folder, cli = tmp_path_factory.mktemp("sweep"), run.prepare([*DATA, *MODEL, *TRAINER])
    (folder / "trials").mkdir()
    (folder / "checkpoints").mkdir()
    arguments = [*DATA, *MODEL, *TRAINER, "--test_after_fit=true"]
    (folder / "trials" / "abc.json").write_text(json.dumps({"arguments": arguments}))
    torch.save({"state_dict": cli.model.state_dict()}, folder / "checkpoints" / "abc.ckpt")
    return folder / "checkpoints" / "abc.ckpt"


@pytest.mark.parametrize("kind", ["fitted", "swept"])
def test_a_checkpoint_comes_back_with_its_weights_and_its_data(kind, request):
    file = request.getfixturevalue(kind)
    trained = load_model(str(file))
    assert isinstance(trained.model, ViT)
    assert not trained.model.training
    state = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, state[f"backbone.{name}"]) for name, tensor in trained.model.state_dict().items())
    assert (trained.name, trained.image_size, trained.in_channels) == ("ViT", (16, 16), 3)
    assert trained.class_names == trained.data.class_names
    names, (images,) = load_images(None, [trained], 7)
    assert len(names) == 7
    assert all(name.split(": ")[1] in trained.class_names for name in names)
    assert torch.allclose(trained.normalize(images), trained.data.normalize(images), atol=1e-5)


def test_images_come_in_the_size_and_channels_of_each_model(fitted, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    for name in ("b.png", "a.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    models = [load_model(str(fitted)), load_model("timm:test_vit=none")]
    names, (small, large) = load_images([tmp_path], models, 10)
    assert names == ["a.png", "b.png", "c.png"]
    assert small.shape == (3, 3, 16, 16)
    assert large.shape == (3, 3, *models[1].image_size)
    assert load_images([tmp_path / "b.png", tmp_path], models, 2)[0] == ["b.png", "a.png"]
    assert models[1].normalize(small).shape == large.shape


def test_timm_weights_come_from_a_file_and_normalization_from_the_published_model(tmp_path):
    fresh = load_model("timm:test_vit=none")
    torch.save(fresh.model.model.state_dict(), tmp_path / "weights.pth")
    again = load_model(f"timm:test_vit={tmp_path / 'weights.pth'}")
    images = torch.randint(0, 256, (2, 3, *fresh.image_size), dtype=torch.uint8)
    assert torch.equal(again.model(again.normalize(images)), fresh.model(fresh.normalize(images)))
    white = again.normalize(torch.full((1, 3, 5, 7), 255, dtype=torch.uint8))[0, :, 0, 0]
    assert torch.allclose(white, (1 - torch.tensor(again.mean)) / torch.tensor(again.std))


def test_what_is_no_checkpoint_is_refused(tmp_path, fitted):
    (tmp_path / "text.ckpt").write_text("no weights")
    torch.save({"something": 1}, tmp_path / "other.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    for name in ("text", "other", "list"):
        with pytest.raises(ValueError, match=f"{name}.ckpt is no checkpoint of vitlab"):
            load_model(str(tmp_path / f"{name}.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*nowhere.ckpt"):
        load_model("nowhere.ckpt")
    shutil.copy(fitted, tmp_path / "alone.ckpt")
    with pytest.raises(ValueError, match=r"nothing beside .*alone.ckpt says which model it is"):
        load_model(str(tmp_path / "alone.ckpt"))
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"config.yaml is no config of vitlab fit"):
        load_model(str(tmp_path / "alone.ckpt"))


def test_the_checkpoint_of_another_model_is_refused(fitted, swept, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    config = (fitted.parent.parent / "config.yaml").read_text()
    assert "patch_size: 4" in config
    (tmp_path / "config.yaml").write_text(config.replace("patch_size: 4", "patch_size: 2"))
    shutil.copy(fitted, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt holds the weights of another model than .*config.yaml describes"):
        load_model(str(tmp_path / "checkpoints" / "last.ckpt"))


def test_unknown_names_and_unreadable_images_are_refused(fitted, tmp_path):
    with pytest.raises(ValueError, match="timm has no model 'vit_tinny'"):
        load_model("timm:vit_tinny=none")
    trained = load_model(str(fitted))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read image .*bad.png"):
        load_images([tmp_path / "bad.png"], [trained], 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no image in"):
        load_images([tmp_path / "empty"], [trained], 1)
    with pytest.raises(ValueError, match="the number of images is 0"):
        load_images(None, [trained], 0)
    with pytest.raises(ValueError, match="does not say which data it was trained on"):
        load_images(None, [load_model("timm:test_vit=none")], 1)
    with pytest.raises(ValueError, match="takes images of 3 channels, got 1"):
        trained.normalize(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
