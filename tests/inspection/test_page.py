import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
import torch

from vitlab.inspection.drawing import pictures_of
from vitlab.inspection.page import attention_page, page_of
from vitlab.inspection.page_data import ModelView, view_model
from vitlab.models import ResNet, ViT, ViTShape

HOSTILE = '</script><script>alert("1")</script><!--<script>&amp;\u2028'
VOID = {"meta", "br", "link", "img"}


class _Reader(HTMLParser):
    """Collects tags and addresses, and what stands in elements with an id; checks that tags nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.content = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][1]:
            self.content[self.open[-1][1]] = self.content.get(self.open[-1][1], "") + data


def read(page):
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def micro_vit():
    shape = ViTShape(dim=24, depth=2, num_heads=3, mlp_dim=24)
    return ViT(image_size=(10, 14), num_classes=11, patch_size=2, size=shape).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))


def cnn():
    return ResNet(image_size=16, num_classes=11, size="micro")


def test_the_page_is_one_file_that_fetches_nothing(images):
    page = attention_page(micro_vit(), images, compare=cnn(), compare_maps={"cam": np.eye(5, 7)}).html
    assert read(page).addresses == []
    assert not {"link", "iframe", "img", "base", "object"} & set(read(page).tags)
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page
    assert "import" not in "".join(re.findall(r"<script>.*?</script>", page, re.DOTALL))
    assert "default-src 'none'" in page


def test_names_cannot_become_markup(images):
    names, classes = [HOSTILE, "plain"], [HOSTILE] * 11
    page = attention_page(micro_vit(), images, names, None, classes, model_names=[HOSTILE], maps={HOSTILE: np.eye(3)})
    tame = attention_page(micro_vit(), images, ["one", "two"], maps={"map": np.eye(3)})
    reader = read(page.html)
    assert reader.tags == read(tame.html).tags
    assert "<!--" not in page.html
    content = json.loads(reader.content["content"])
    assert content["images"][0]["name"] == HOSTILE
    assert content["models"][0]["name"] == HOSTILE
    assert content["models"][0]["predictions"][0][0][0] == HOSTILE


def test_the_page_describes_every_layer_and_holds_a_block_for_it(images):
    reader = read(attention_page(micro_vit(), images, compare=cnn(), compare_maps={"cam": np.eye(5, 7)}).html)
    vit, resnet = json.loads(reader.content["content"])["models"]
    assert [(layer["rows"], layer["columns"], layer["heads"], layer["prefix"]) for layer in vit["layers"]] == 2 * [
        (5, 7, 3, 1)
    ]
    assert resnet["layers"] == []
    assert resnet["maps"] == [{"name": "cam", "rows": 5, "columns": 7}]
    assert resnet["ranges"] == [[[0.0, 1.0]], [[0.0, 1.0]]]
    blocks = {f"w-0-{image}-{layer}" for image in (0, 1) for layer in (0, 1, "rollout")} | {"m-1-0-0", "m-1-1-0"}
    assert set(reader.content) == {"content"} | blocks


def test_predictions_are_named_by_class_and_else_by_number(images):
    model = micro_vit()
    shares = model(images).softmax(dim=-1)
    named = json.loads(read(attention_page(model, images, class_names=list("abcdefghijk")).html).content["content"])
    plain = json.loads(read(attention_page(model, images).html).content["content"])
    for image in (0, 1):
        best = shares[image].argmax().item()
        assert named["models"][0]["predictions"][image][0][0] == "abcdefghijk"[best]
        assert plain["models"][0]["predictions"][image][0] == [
            f"class {best}",
            pytest.approx(shares[image].max().item()),
        ]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(images):
    page = attention_page(micro_vit(), images)
    shown = re.fullmatch(
        r'<iframe title="[^"]*" sandbox="allow-scripts" srcdoc="([^"]*)" style="[^"]*"></iframe>', page._repr_html_()
    )
    assert html.unescape(shown[1]) == page.html


def test_the_file_is_written_whole_or_not_at_all(images, tmp_path):
    page = attention_page(micro_vit(), images)
    assert page.save(tmp_path / "folder" / "page.html").read_text(encoding="utf-8") == page.html
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        page.save(tmp_path / "taken")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "taken"}


def test_numbers_that_do_not_match_are_refused(images):
    view = view_model(micro_vit(), images)
    with pytest.raises(ValueError, match="there are 2 images and 1 names"):
        page_of([view], pictures_of(images), ["one"])
    for views in ([], [view] * 3):
        with pytest.raises(ValueError, match="one model, or two side by side"):
            page_of(views, pictures_of(images))


def test_models_that_saw_another_number_of_images_are_refused(images):
    with pytest.raises(ValueError, match="ViT has seen 2 images and the page shows 1"):
        page_of([view_model(micro_vit(), images)], pictures_of(images[:1]))
    with pytest.raises(ValueError, match="cnn has seen 3 images"):
        page_of([ModelView("cnn", maps={"cam": np.ones((3, 5, 7))})], pictures_of(images))


def test_text_is_legible_in_light_and_dark():
    style = (files("vitlab.inspection") / "page.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]{6})", block)) for block in re.findall(r"\{([^{}]*--[^{}]*)\}", style)
    ]
    schemes = [block for block in blocks if "page" in block]
    assert len(schemes) == 3
    assert schemes[1] == schemes[2]  # as the system says, and as the button says
    for colors in schemes:
        for name in ("ink", "soft", "m0", "pick"):
            for ground in ("page", "card"):
                assert _contrast(colors[name], colors[ground]) >= 4.5, (name, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""

    def luminance(color: str) -> float:
        channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)
