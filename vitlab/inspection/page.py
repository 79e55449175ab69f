"""The attention page: point at a patch and see where it looks, in one HTML file that fetches nothing.

Its look stands in page.css, and what it does in page_weights.js (unpacking, wording), page.js (what is on it),
page_view.js (drawing) and page_link.js (keys, links). The weights come last: it is painted before they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitlab.atomic_file import atomic_file
from vitlab.inspection.drawing import Pictures, color_table, data_address, pictures_of
from vitlab.inspection.page_data import ModelView, pack, pack_map, view_model

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_SCRIPTS = ("page_weights.js", "page.js", "page_view.js", "page_link.js")
_FRAME_HEIGHT = 900  # CSS pixels in a notebook; the page scrolls inside
_NUM_PREDICTIONS = 3


@dataclass(frozen=True)
class AttentionPage:
    """A finished page: `.save("page.html")`, or the last line of a notebook's cell.

    Args:
        html: The whole page.
    """

    html: str

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all, and return where it stands.

        Args:
            path: The file; its folder is made if missing.
        """
        path = Path(path)
        with atomic_file(path) as file:
            file.write(self.html)
        return path

    def _repr_html_(self) -> str:
        # A frame of its own: the page's style must not reach the notebook, nor the notebook's keys the page.
        return (
            f'<iframe title="attention page" sandbox="allow-scripts" srcdoc="{escape(self.html)}" '
            f'style="width:100%;height:{_FRAME_HEIGHT}px;border:0"></iframe>'
        )


def attention_page(
    model: nn.Module,
    images: Tensor,
    names: Sequence[str] | None = None,
    compare: nn.Module | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layers: Sequence[int] | None = None,
    maps: Mapping[str, Any] | None = None,
    compare_maps: Mapping[str, Any] | None = None,
    model_names: Sequence[str] | None = None,
) -> AttentionPage:
    """Show what a model looks at, alone or beside another, on a page to point at.

    Args:
        model: A vitlab model, a timm ViT, or any model with maps.
        images: Few of them, as the model takes them, (batch, channels, height, width); about 5 MB of page for each and
            12 layers x 12 heads x 197 tokens, less for smaller models.
        names: What to call the images; None: image 1, image 2, ...
        compare: A second model that takes the same images.
        class_names: What the outputs stand for; None: their numbers.
        mean: What was subtracted from each channel of the images (white is 1), so that they look right; None: nothing.
        std: What each channel was divided by then; None: nothing.
        layers: Attention layers of both models to show, from 0; None: all.
        maps: Maps over the image to show as well, by name, such as Grad-CAM: (rows, columns) or (batch, rows, columns).
        compare_maps: The same for the second model; a CNN needs them.
        model_names: What to call the models; None: their classes.

    Raises:
        ValueError: A model has neither attention on a grid nor maps, there is no such layer, or numbers do not match.
    """
    names_of_models = [*(model_names or []), None, None]
    views = [view_model(model, images, names_of_models[0], layers, maps)]
    if compare is not None:
        views.append(view_model(compare, images, names_of_models[1], layers, compare_maps))
    return page_of(views, pictures_of(images, mean, std), names, class_names)


def page_of(
    views: Sequence[ModelView],
    pictures: Pictures,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> AttentionPage:
    """Return the page of one or two models that have seen the same pictures, each in its own size and normalization.

    Args:
        views: What each model did.
        pictures: What was seen.
        names: What to call the pictures; None: image 1, image 2, ...
        class_names: What the outputs stand for; None: their numbers.

    Raises:
        ValueError: Numbers do not match.
    """
    number = len(pictures.pixels)
    names = [f"image {index}" for index in range(1, number + 1)] if names is None else list(names)
    if len(names) != number:
        raise ValueError(f"there are {number} images and {len(names)} names; give one for each")
    if not 1 <= len(views) <= 2:
        raise ValueError(f"a page shows one model, or two side by side, got {len(views)}")
    for view in views:
        for seen in map(len, [*view.weights, *view.maps.values()]):
            if seen != number:
                raise ValueError(f"{view.name} has seen {seen} images and the page shows {number}; give it the same")
    blocks: dict[str, str] = {}
    content = {
        "colors": color_table(),
        "images": [
            {"name": name, "address": data_address(pixels), "height": pixels.shape[0], "width": pixels.shape[1]}
            for name, pixels in zip(names, pictures.pixels, strict=True)
        ],
        "models": [_model(index, view, number, class_names, blocks) for index, view in enumerate(views)],
        "stretched": pictures.is_stretched,
    }
    return AttentionPage(_document(content, blocks, " beside ".join(view.name for view in views)))


def _model(
    index: int, view: ModelView, num_images: int, class_names: Sequence[str] | None, blocks: dict[str, str]
) -> dict[str, Any]:
    """Describe a model for the page's script, and add its packed weights to the blocks."""
    grids = [info.grid for info in view.layers]
    levels, errors, ranges = [], [], []
    for image in range(num_images):
        layers = [layer[image] for layer in view.weights]
        rolled = [] if view.rolled is None else [view.rolled[image]]
        if layers:
            packed = pack(layers + rolled, grids + grids[: len(rolled)])
            levels.append(packed.levels)
            errors.append(packed.error)
            kinds = [*range(len(layers)), *(["rollout"] if rolled else [])]
            blocks |= {f"w-{index}-{image}-{kind}": text for kind, text in zip(kinds, packed.blocks, strict=True)}
        ranges.append([])
        for place, values in enumerate(view.maps.values()):
            blocks[f"m-{index}-{image}-{place}"], low, high = pack_map(values[image])
            ranges[-1].append([low, high])
    return {
        "name": view.name,
        "prefix": view.prefix_names,
        "layers": [
            {
                "name": info.name,
                "heads": layer.shape[1],
                "rows": info.grid.height,
                "columns": info.grid.width,
                "prefix": info.grid.num_prefix_tokens,
            }
            for info, layer in zip(view.layers, view.weights, strict=True)
        ],
        "rollout": view.rolled is not None,
        "maps": [
            {"name": name, "rows": values.shape[1], "columns": values.shape[2]} for name, values in view.maps.items()
        ],
        "ranges": ranges,
        "levels": levels,
        "error": max(errors, default=0.0),
        "predictions": _predictions(view, class_names),
    }


def _predictions(view: ModelView, class_names: Sequence[str] | None) -> list[list[tuple[str, float]]]:
    if view.logits is None or not view.logits.shape[-1]:
        return []
    classes = view.logits.shape[-1]
    known = class_names if class_names is not None and len(class_names) == classes else None
    best = view.logits.softmax(dim=-1).topk(min(_NUM_PREDICTIONS, classes), dim=-1)
    return [
        [(str(known[place]) if known else f"class {place}", share) for share, place in zip(*pair, strict=True)]
        for pair in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _document(content: dict[str, Any], blocks: dict[str, str], models: str) -> str:
    title = f"Where {models} looks" if len(content["models"]) == 1 else f"Where they look: {models}"
    folder = files("vitlab.inspection")
    style = (folder / "page.css").read_text(encoding="utf-8")
    scripts = "".join(f"<script>{(folder / name).read_text(encoding='utf-8')}</script>" for name in _SCRIPTS)
    data = "".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body><header><h1>{escape(title)}</h1></header><main></main><footer></footer>"
        "<noscript><p>This page moves: it needs JavaScript, and nothing from the network.</p></noscript>"
        f'<script type="application/json" id="content">{_json(content)}</script>{scripts}{data}</body></html>\n'
    )


def _json(content: dict[str, Any]) -> str:
    """Return JSON that cannot end the script element it stands in, whatever names are in it."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
