"""`vitlab inspect`: a page to point at, and measures of where models look."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitlab.inspection import AttentionPage

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"

MAX_PAGE_IMAGES = 12  # each costs up to 5 MB, and measures want hundreds


def add_inspect(commands: Commands) -> None:
    """Add `vitlab inspect`."""
    parser = commands.add_parser(
        "inspect",
        help="write a page to point at: where a model looks, alone or beside another",
        description="One HTML file that shows what each patch looks at, in every layer and head; it fetches nothing.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", metavar="FILE", help="a .ckpt of vitlab fit (in its run's folder), or a sweep's"
    )
    source.add_argument("--timm", metavar="NAME", help="a timm model, such as vit_tiny_patch16_224.augreg_in21k")
    parser.add_argument(
        "--weights", metavar="FILE", help="weights for --timm; none: before training (default: the published ones)"
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second model beside it: a checkpoint, timm:NAME or timm:NAME=FILE"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="PATH",
        help="image files or folders (default: validation images of the checkpoint's data)",
    )
    parser.add_argument("--num-images", type=int, default=6, metavar="N", help="the first N images (default: 6)")
    parser.add_argument("--layers", type=int, nargs="+", metavar="N", help="attention layers, from 0 (default: all)")
    parser.add_argument("--out", type=Path, default=Path("page.html"), metavar="FILE", help="(default: page.html)")
    parser.add_argument(
        "--measure",
        metavar="LIST",
        help="tables and figures beside the page, of distance,erf,cka,robustness (use --num-images 100 or more)",
    )
    parser.set_defaults(function=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from vitlab.inspection.measures import check_kinds
    from vitlab.training.checkpoint import load_images, load_model

    if options.weights and not options.timm:
        raise ValueError("--weights go with --timm; a checkpoint brings its own")
    kinds = [kind.strip() for kind in options.measure.split(",")] if options.measure is not None else []
    if options.measure is not None:
        check_kinds(kinds)
    source = options.checkpoint or f"timm:{options.timm}{f'={options.weights}' if options.weights else ''}"
    first = load_model(source)
    models = [first, *([load_model(options.compare)] if options.compare else [])]
    names, images = load_images(options.images, models, options.num_images)
    page = _make_page(models, names, images, options)
    if page is None and not kinds:
        named = " and ".join(trained.name for trained in models)
        raise ValueError(f"no attention to look at in {named}; give a ViT, or --measure erf for any model")
    for file in _measure(kinds, models, images, options) if kinds else []:
        print(f"measured: {file}")
    if page is not None:
        print(f"page: {page.save(options.out)} ({len(page.html) / 1e6:.1f} MB)")
    return 0


def _make_page(models: list, names: list, images: list, options: argparse.Namespace) -> "AttentionPage | None":
    """Return the page, or None where no model has attention."""
    from vitlab.inspection.drawing import pictures_of
    from vitlab.inspection.model_maps import model_maps
    from vitlab.inspection.page import page_of
    from vitlab.inspection.page_data import view_model

    names, images = names[:MAX_PAGE_IMAGES], [seen[:MAX_PAGE_IMAGES] for seen in images]
    views = []
    for trained, seen in zip(models, images, strict=True):
        inputs = trained.normalize(seen)
        maps = model_maps(trained.model, inputs, trained.name)
        views.append(view_model(trained.model, inputs, trained.name, options.layers, maps))
    if not any(view.layers for view in views):
        return None
    return page_of(views, pictures_of(images[0]), names, models[0].class_names)


def _measure(kinds: list[str], models: list, images: list, options: argparse.Namespace) -> list[Path]:
    from vitlab.inspection.measures import Subject, write_measures
    from vitlab.training.checkpoint import load_labels

    alike = len({trained.name for trained in models}) < len(models)
    subjects = [
        Subject(f"{trained.name} {number}" if alike else trained.name, trained.model, seen, trained.normalize)
        for number, (trained, seen) in enumerate(zip(models, images, strict=True), start=1)
    ]
    labels = None if options.images else load_labels(models[0], options.num_images)
    return write_measures(kinds, subjects, options.out.with_suffix(""), labels)
