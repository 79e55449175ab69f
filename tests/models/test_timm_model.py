import socket
import subprocess
import sys
import time

import jsonargparse
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from vitlab.models import TimmModel

VIT = {"name": "vit_tiny_patch16_224", "depth": 2}


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "mobilenetv3_small_050"]
)
@pytest.mark.parametrize("image_size", [64, (64, 96)])
def test_any_family_takes_the_same_constructor_words(name, image_size):
    model = TimmModel(name, image_size=image_size, num_classes=7, in_channels=2).eval()
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    assert model(torch.randn(2, 2, height, width)).shape == (2, 7)


def test_model_options_reach_timm():
    assert len(TimmModel(**VIT, image_size=32, num_classes=7).model.blocks) == 2


def test_weight_decay_is_kept_from_what_timm_lists():
    model = TimmModel(**VIT, image_size=32, num_classes=7)
    assert model.no_weight_decay() <= set(dict(model.named_parameters()))
    assert "model.pos_embed" in model.no_weight_decay()
    assert TimmModel("resnet18", 32, 7).no_weight_decay() == set()


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({**VIT, "num_classes": 7}, ["patch_embed.proj", "head"]),
        ({**VIT, "num_classes": 0}, ["patch_embed.proj"]),
        (
            {"name": "deit_tiny_distilled_patch16_224", "depth": 1, "num_classes": 7},
            ["patch_embed.proj", "head", "head_dist"],
        ),
        ({"name": "test_convnext", "num_classes": 7}, ["stem.0", "head.fc"]),
    ],
)
def test_the_first_and_the_last_layer_are_those_that_timm_names(options, layers):
    names = TimmModel(**options, image_size=32).input_and_output_layers()
    assert names == {f"model.{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_a_model_whose_first_layer_timm_does_not_name_is_refused():
    model = TimmModel(**VIT, image_size=32, num_classes=7)
    model.model.pretrained_cfg = model.model.pretrained_cfg | {"first_conv": ()}
    with pytest.raises(
        ValueError, match=r"which layer of vit_tiny_patch16_224 is the first.*use vitlab\.training\.AdamW"
    ):
        model.input_and_output_layers()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_weights_file_gives_the_same_logits(tmp_path, suffix):
    saved = TimmModel(**VIT, image_size=32, num_classes=7).eval()
    file = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(saved.model.state_dict(), file)
    loaded = TimmModel(**VIT, image_size=32, num_classes=7, weights=str(file)).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), saved(images))


def test_a_classifier_for_other_classes_starts_anew_and_that_is_said(tmp_path):
    saved = timm.create_model("resnet18", num_classes=7)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": saved.state_dict()}, file)
    with pytest.warns(UserWarning, match=r"a classifier for 7 classes: resnet18's starts anew, for 5"):
        loaded = TimmModel("resnet18", 32, 5, weights=str(file)).model
    assert torch.equal(loaded.layer4[1].conv2.weight, saved.layer4[1].conv2.weight)
    assert loaded.fc.weight.shape == (5, 512)
    assert loaded.fc.weight.std() > 0


def test_weights_adapt_to_other_channels_and_image_sizes(tmp_path):
    saved = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32, num_classes=7)
    file = tmp_path / "weights.pth"
    torch.save(saved.state_dict(), file)
    loaded = TimmModel(**VIT, image_size=48, num_classes=7, in_channels=1, weights=str(file)).model
    torch.testing.assert_close(loaded.patch_embed.proj.weight, saved.patch_embed.proj.weight.sum(1, keepdim=True))
    assert loaded.pos_embed.shape == (1, 10, 192)
    assert torch.equal(loaded.blocks[1].mlp.fc1.weight, saved.blocks[1].mlp.fc1.weight)


def test_weights_of_another_model_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18", num_classes=7).state_dict(), file)
    with pytest.raises(
        ValueError, match=r"does not hold weights that fit resnet34: Missing key.*saved from this timm model"
    ):
        TimmModel("resnet34", 32, 7, weights=str(file))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "resnet81"}, ValueError, "timm has no model 'resnet81'; did you mean .*resnet18"),
        ({"name": "zzzzzzzz"}, ValueError, "timm.list_models"),
        ({"name": "resnet18.nonsense"}, ValueError, "no weights tagged 'nonsense' for resnet18; it has: .*a1_in1k"),
        ({"weights": "no_such.pth"}, FileNotFoundError, "there is no weights file 'no_such.pth'"),
        ({"weights": "weights.txt"}, ValueError, "must be a file that ends in .safetensors or .pth"),
        ({"weights": "weights.pth", "pretrained": True}, ValueError, "either pretrained: true or a weights file"),
        ({"name": "test_vit", "pretrained": True}, ConnectionError, "does not answer"),
        ({"name": "vit_gigantic_patch14_224", "pretrained": True}, ValueError, "publishes no weights"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(options, error, message, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(error, match=message):
        TimmModel(**{"name": "resnet18", "image_size": 32, "num_classes": 7} | options)


def refusal(name="resnet18"):
    start = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        TimmModel(name, 32, 7, pretrained=True)
    return str(caught.value), time.perf_counter() - start


def test_without_a_network_pretrained_weights_fail_within_seconds_and_say_what_to_do(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message, seconds = refusal()
    assert seconds < 5
    assert "pass weights: FILE, or set pretrained to false" in message


def test_a_network_that_swallows_everything_fails_within_seconds_too(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and never speaks
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        message, seconds = refusal()
    assert seconds < 5
    assert "does not answer" in message


def test_offline_mode_is_named_as_the_reason(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message, seconds = refusal()
    assert "HF_HUB_OFFLINE is set" in message
    assert seconds < 1


def test_pretrained_weights_in_the_local_cache_need_no_network(tmp_path, monkeypatch):
    saved = timm.create_model("resnet18", num_classes=1000)
    repository = timm.get_pretrained_cfg("resnet18").hf_hub_id.replace("/", "--")
    folder = tmp_path / f"models--{repository}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    save_file(saved.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    loaded = TimmModel("resnet18", 32, 7, pretrained=True).model
    assert torch.equal(loaded.layer1[0].conv1.weight, saved.layer1[0].conv1.weight)
    assert loaded.fc.weight.shape == (7, 512)


def test_a_config_may_pass_options_through():
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "model")
    config = parser.parse_string("""
        model:
          class_path: vitlab.models.TimmModel
          init_args: {name: vit_tiny_patch16_224, image_size: 32, num_classes: 7}
          dict_kwargs: {depth: 2}
    """)
    assert len(parser.instantiate(config).model.model.blocks) == 2


def test_importing_models_waits_for_neither_timm_nor_torchvision():
    code = "import sys, vitlab.models; print([name for name in ('timm', 'torchvision') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
