"""`vitlab inspect`: a page or one line that says why not, and never half a file."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.cli import main

VIT = ["inspect", "--timm", "test_vit", "--weights", "none"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with an image in it."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path


def content(path):
    return json.loads(re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_a_timm_model_gets_its_page(folder, capsys):
    assert main([*VIT, "--images", "image.png", "--layers", "1", "--out", "pages/one.html"]) == 0
    assert capsys.readouterr().out.startswith("page: pages/one.html (")
    page = content(folder / "pages" / "one.html")
    assert [image["name"] for image in page["images"]] == ["image.png"]
    assert [layer["name"] for layer in page["models"][0]["layers"]] == ["blocks.1.attn"]
    assert not page["stretched"]


def test_a_vit_stands_beside_a_cnn_with_the_same_maps(folder):
    assert main([*VIT, "--compare", "timm:test_resnet=none", "--images", "image.png"]) == 0
    vit, cnn = content(folder / "page.html")["models"]
    assert vit["layers"]
    assert cnn["layers"] == []
    assert [one["name"] for one in vit["maps"]] == [one["name"] for one in cnn["maps"]]
    assert len(cnn["maps"]) == 2


def test_measures_stand_in_a_folder_beside_the_page(folder, capsys):
    arguments = [*VIT, "--images", "image.png", "--measure", "distance,erf", "--out", "pages/one.html"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["measured"] * 4 + ["page"]
    names = {path.name for path in (folder / "pages" / "one").iterdir()}
    assert names == {"distance.csv", "distance.png", "erf.csv", "erf.png"}


def test_a_cnn_alone_is_measured_without_a_page(folder):
    cnn = ["inspect", "--timm", "test_resnet", "--weights", "none", "--images", "image.png"]
    assert main([*cnn, "--measure", "erf"]) == 0
    assert not (folder / "page.html").exists()
    assert (folder / "page" / "erf.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*VIT, "--images", "image.png", "--measure", "color"], "unknown measure 'color'; use one or more of distance"),
        ([*VIT, "--images", "image.png", "--measure", "robustness"], "needs the images' classes"),
        (["inspect", "--timm", "test_resnet", "--weights", "none", "--images", "image.png"], "no attention"),
        ([*VIT, "--images", "image.png", "--layers", "99"], "no attention layer 99; use 0 to "),
        (
            [*VIT, "--images", "image.png", "--layers", "99", "--compare", "timm:test_resnet=none"],
            "no attention layer 99",
        ),
        ([*VIT, "--images", "bad.png"], "cannot read image bad.png"),
        ([*VIT, "--images", "nowhere"], "cannot read image nowhere"),
        ([*VIT], "name image files or a folder"),
        ([*VIT, "--images", "image.png", "--num-images", "0"], "the number of images is 0"),
        (
            ["inspect", "--checkpoint", "other.ckpt", "--images", "image.png"],
            "nothing beside other.ckpt says which model",
        ),
        (["inspect", "--checkpoint", "bad.png"], "bad.png is no checkpoint of vitlab"),
        (["inspect", "--checkpoint", "nowhere.ckpt"], "there is no checkpoint 'nowhere.ckpt'"),
        (["inspect", "--checkpoint", "other.ckpt", "--weights", "none"], "--weights go with --timm"),
        (["inspect", "--timm", "test_vit", "--weights", "other.ckpt"], "must be a file that ends in"),
        (["inspect", "--timm", "test_vitt", "--weights", "none"], "did you mean"),
    ],
)
def test_bad_input_is_one_line_exits_with_two_and_writes_nothing(folder, capsys, arguments, words):
    (folder / "bad.png").write_bytes(b"no image")
    torch.save({"state_dict": {}}, folder / "other.ckpt")
    before = {path.name for path in folder.iterdir()}
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("vitlab: error: ")
    assert words in error
    assert {path.name for path in folder.iterdir()} == before


def test_a_page_that_cannot_be_written_leaves_nothing(folder, capsys):
    (folder / "taken").mkdir()
    assert main([*VIT, "--images", "image.png", "--out", "taken"]) == 2
    assert "taken" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"taken", "image.png"}
