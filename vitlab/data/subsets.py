"""Nested training subsets that are the same on every machine, their classes balanced or in proportion.

A learning curve over data sizes is smoother, and two sizes differ by fewer accidents, when the smaller subset is
contained in the larger. So one seed draws one order of all images, and a subset is a prefix of it.

Random keys come from the raw output of Philox, which numpy keeps unchanged; `Generator.permutation` may change between
numpy versions. All sorts are stable.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vitlab.atomic_file import write_json

Draw = Literal["balanced", "proportional"]


def random_words(count: int, seed: int, stream: str, position: int = 0) -> np.ndarray:
    """Draws random 64-bit words, the same on every machine.

    Args:
        count: number of words.
        seed: 0 to 2^64 - 1.
        stream: name of the purpose; streams of different names are independent.
        position: number of the draw within the stream, such as the epoch; 0 to 2^64 - 1.

    Shape:
        uint64 (count,).

    Raises:
        ValueError: the seed is negative or too large.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is out of range; use 0 to 2**64 - 1")
    # The key's upper half holds the purpose and the counter's upper half the position, so that no two draws overlap.
    return np.random.Philox(key=seed | zlib.crc32(stream.encode()) << 64, counter=position << 128).random_raw(count)


def balanced_order(labels: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """Orders all images so that the classes of every prefix differ by one image at most while the smallest class lasts.

    Args:
        labels: the class of each image.
        seed: 0 to 2^64 - 1.

    Shape:
        int64 (images,), a permutation of the images' indices.

    Raises:
        ValueError: no labels.
    """
    rounds, turn_keys = _shuffled_classes(_as_labels(labels), seed)
    # Round r takes the r-th image of every class, in random order: without it the first class would always come first.
    return np.lexsort((turn_keys, rounds)).astype(np.int64)


def proportional_order(labels: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """Orders all images so that in every prefix each class has about the share that it has of all images.

    Each class is laid out evenly over the whole order, from a random place on (systematic sampling; Madow and Madow,
    Annals of Mathematical Statistics 15, 1944). So of n images a class with share s has s * n, to within
    1 + s * classes; where that is less than one image it may have none, and the very first images are of large classes
    more often than their shares say.

    Args:
        labels: the class of each image.
        seed: 0 to 2^64 - 1.

    Shape:
        int64 (images,), a permutation of the images' indices.

    Raises:
        ValueError: no labels.
    """
    labels = _as_labels(labels)
    ranks, turn_keys = _shuffled_classes(labels, seed)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    begins = (random_words(len(counts), seed, "class") >> np.uint64(11)) * 2.0**-53  # from 0 up to, not including, 1
    places = (ranks + begins[classes]) / counts[classes]
    return np.lexsort((turn_keys, places)).astype(np.int64)


def nested_subsets(
    labels: Sequence[int] | np.ndarray,
    sizes: Sequence[int],
    seed: int,
    class_names: Sequence[str] | None = None,
    draw: Draw = "balanced",
) -> list[list[int]]:
    """Draws one subset per size, each containing all smaller ones.

    Args:
        labels: the class of each image.
        sizes: numbers of images wanted, in any order; for a balanced draw at least the number of classes each.
        seed: 0 to 2^64 - 1; another seed draws other subsets.
        class_names: names for error messages, indexed by label.
        draw: `balanced`: as many images of each class, to within one; `proportional`: each class keeps its share.

    Shape:
        one list of image indices per size, in the order of `sizes`.

    Raises:
        ValueError: a size that the images cannot give.
    """
    labels = _as_labels(labels)
    check_draw(draw)
    for size in sizes:
        _check_size(labels, size, class_names, draw)
    order = (balanced_order if draw == "balanced" else proportional_order)(labels, seed).tolist()
    return [order[:size] for size in sizes]


def check_draw(draw: str) -> None:
    """Refuses a rule of drawing that is not known.

    Raises:
        ValueError: the rules that are.
    """
    if draw not in get_args(Draw):
        raise ValueError(f"unknown draw {draw!r}; use {' or '.join(get_args(Draw))}")


def split_validation(
    labels: Sequence[int] | np.ndarray, val_size: int | float, seed: int, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits images into a training part and a validation part in which the classes keep their shares.

    Args:
        labels: the class of each image.
        val_size: number of validation images (an integer, at least the number of classes) or their share of all images
            (a fraction between 0 and 1, rounded; at least one image of each class is taken).
        seed: 0 to 2^64 - 1.
        class_names: names for error messages, indexed by label.

    Shape:
        two int64 arrays of image indices, training and validation, both ascending.

    Raises:
        ValueError: a size that leaves a class without training or validation images.
    """
    labels = _as_labels(labels)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        name = _name(classes[counts.argmin()], class_names)
        raise ValueError(f"class {name} has 1 image; a validation split needs at least 2 images of each class")
    size = _validation_count(len(labels), len(classes), val_size)
    # One image of each class on either side is set apart; the rest is shared in proportion, by largest remainder.
    room = counts - 2
    extra = (size - len(classes)) * room
    quota = 1 + extra // max(room.sum(), 1)
    remainder = extra % max(room.sum(), 1)
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    ranks = _rank_within_class(labels, random_words(len(labels), seed, "validation"))
    in_validation = ranks < quota[np.searchsorted(classes, labels)]
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)


def manifest(
    dataset: str,
    fingerprint: str,
    seed: int,
    labels: Sequence[int] | np.ndarray,
    indices: Sequence[int],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Describes a subset so that anybody can rebuild or check it.

    Args:
        dataset: name of the data set.
        fingerprint: hash of its content.
        seed: seed of the draw.
        labels: the class of every image of the training data, indexed by `indices`.
        indices: the subset.
        class_names: names of the classes, indexed by label.
    """
    counts = np.bincount(_as_labels(labels)[np.asarray(indices, dtype=np.int64)], minlength=len(class_names))
    return {
        "dataset": dataset,
        "fingerprint": fingerprint,
        "seed": int(seed),
        "train_size": len(indices),
        "class_counts": {str(name): int(count) for name, count in zip(class_names, counts, strict=True)},
        "indices": [int(index) for index in indices],
    }


def write_manifest(path: str | Path, content: dict[str, Any]) -> None:
    """Writes a manifest whole or not at all.

    Args:
        path: the JSON file; its folder is made if missing.
        content: what `manifest` gave.
    """
    write_json(Path(path), content)


def _as_labels(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"labels must be a non-empty list of integers; got shape {array.shape}, type {array.dtype}")
    return array.astype(np.int64)


def _shuffled_classes(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image's place in the random order of its class, and random keys that order images of one place."""
    keys = random_words(2 * len(labels), seed, "subset")
    return _rank_within_class(labels, keys[: len(labels)]), keys[len(labels) :]


def _rank_within_class(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Position of each image among those of its class when sorted by key."""
    by_class = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    return ranks


def _check_size(labels: np.ndarray, size: int, class_names: Sequence[str] | None, draw: Draw) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise ValueError(f"train_size {size!r} is not a whole number of images")
    classes, counts = np.unique(labels, return_counts=True)
    if draw == "balanced" and size < len(classes):
        raise ValueError(
            f"train_size {size} is below the number of classes; use {len(classes)} or more, one image of each class"
        )
    if size < 1:
        raise ValueError(f"train_size {size} is no image; use 1 or more")
    if size > len(labels):
        raise ValueError(
            f"train_size {size} is larger than the {len(labels)} training images there are; "
            "use fewer, or null for all images"
        )
    if draw == "proportional":
        return
    smallest = counts.min()
    largest_balanced = len(classes) * smallest + (counts > smallest).sum()
    if size > largest_balanced:
        name = _name(classes[counts.argmin()], class_names)
        raise ValueError(
            f"train_size {size} cannot be class-balanced: class {name} has only {smallest} training images; "
            f"use {largest_balanced} or fewer, null for all {len(labels)} images, or data.draw: proportional, in which "
            "each class keeps its share"
        )


def _validation_count(num_images: int, num_classes: int, val_size: int | float) -> int:
    is_count = isinstance(val_size, int | np.integer) and not isinstance(val_size, bool)
    if not is_count and not (isinstance(val_size, float) and 0 < val_size < 1):
        raise ValueError(f"val_size {val_size!r} must be a number of images or a fraction between 0 and 1")
    # A fraction of a tiny folder may round to fewer images than classes; one of each class is what was meant.
    count = int(val_size) if is_count else max(num_classes, round(val_size * num_images))
    if not num_classes <= count <= num_images - num_classes:
        raise ValueError(
            f"val_size {val_size} means {count} of {num_images} training images; use {num_classes} to "
            f"{num_images - num_classes}, which leaves every class an image on both sides"
        )
    return count


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return str(class_names[label]) if class_names is not None else str(label)
