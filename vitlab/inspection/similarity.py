"""Similarity of layers: whether two layers, of one model or of two, tell images apart in the same way (CKA).

Centered kernel alignment: Kornblith et al., arXiv 1905.00414. In minibatches, with the unbiased estimator of HSIC:
Nguyen et al., arXiv 2010.15327, section 2; Song et al., JMLR 13, 2012 (the estimator HSIC_1). For ViT beside ResNet:
Raghu et al., arXiv 2108.08810, section 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitlab.inspection.feature_maps import check_images, evaluating, layer_names, watched

_LEAST_IMAGES = 4  # the estimator divides by n - 3
_LEAST_SPREAD = 1e-12  # of squared features, relative: below it, what differs is rounding


@dataclass(frozen=True)
class LayerSimilarity:
    """CKA of each layer of one model with each of another.

    Args:
        matrix: About 0 (nothing in common) to 1 (the same up to rotation and scale), (layers_a, layers_b); being an
            estimate, it may leave that range a little.
        layers_a: Names of the first model's layers, the rows.
        layers_b: Names of the second model's layers, the columns.
        num_images: Images that went in.
    """

    matrix: Tensor
    layers_a: list[str]
    layers_b: list[str]
    num_images: int


def cka(
    model_a: nn.Module,
    model_b: nn.Module,
    batches: Iterable[Tensor | Sequence[Tensor]],
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
) -> LayerSimilarity:
    """Compare the layers of two models by how alike they find the images, a batch at a time.

    A layer's features of an image are all its numbers in a row. Larger batches and more of them lower the noise, not
    the bias, which there is none of.

    Args:
        model_a: Any model that is called with images; it is left as it was.
        model_b: Another, or the same.
        batches: Batches of four images or more, normalized as both models want them; of a batch with labels, the first
            part is taken.
        layers_a: Names of the first model's layers, as in model.named_modules(); None: its blocks.
        layers_b: Names of the second model's layers; None: its blocks.

    Raises:
        ValueError: No batches, one of fewer than four images, no such layer, or one that tells no images apart.

    Source: Nguyen et al., arXiv 2010.15327, section 2.
    """
    layers_a = layer_names(model_a) if layers_a is None else list(layers_a)
    layers_b = layer_names(model_b) if layers_b is None else list(layers_b)
    sums = _Sums()
    for batch in batches:
        images = batch if isinstance(batch, Tensor) else batch[0]
        check_images(images)
        features_a = _features(model_a, images, layers_a)
        is_same = model_b is model_a and layers_b == layers_a
        features_b = features_a if is_same else _features(model_b, images, layers_b)
        sums.add([features_a[name] for name in layers_a], [features_b[name] for name in layers_b])
    matrix = sums.similarity(layers_a, layers_b)
    return LayerSimilarity(matrix, layers_a, layers_b, sums.num_images)


def feature_cka(features_a: Tensor, features_b: Tensor, batch_size: int | None = None) -> float:
    """Compare two sets of features of the same images.

    Args:
        features_a: One vector for each image.
        features_b: Vectors of the same images, of the same width or another.
        batch_size: Images in a minibatch, 4 or more (the rest of at least 4 counts as one); None: all at once.

    Shape: (images, dim_a) and (images, dim_b).

    Raises:
        ValueError: Numbers of images differ, are fewer than four, or features tell no images apart.
    """
    if len(features_a) != len(features_b):
        raise ValueError(f"both must be of the same images, got {len(features_a)} and {len(features_b)} vectors")
    sums = _Sums()
    size = batch_size or max(1, len(features_a))
    for part_a, part_b in zip(features_a.split(size), features_b.split(size), strict=True):
        sums.add([part_a], [part_b])
    return sums.similarity(["features_a"], ["features_b"]).item()


def unbiased_hsic(grams_a: Tensor, grams_b: Tensor) -> Tensor:
    """Estimate how much two similarities of the same images have in common, without bias.

    With K and L without their diagonals: (tr KL + sum K sum L / (n-1)(n-2) - 2 / (n-2) 1'KL1) / n(n-3).

    Args:
        grams_a: Inner products of each two images' features, for each layer.
        grams_b: The same of other layers.

    Shape: (layers_a, images, images) and (layers_b, images, images) to (layers_a, layers_b).

    Source: Song et al., JMLR 13, 2012, the estimator HSIC_1.
    """
    n = grams_a.shape[-1]
    off_diagonal = 1 - torch.eye(n, dtype=grams_a.dtype, device=grams_a.device)
    k, l = grams_a * off_diagonal, grams_b * off_diagonal  # noqa: E741 - the paper's letters
    rows_k, rows_l = k.sum(-1), l.sum(-1)  # (layers, images)
    trace = k.flatten(1) @ l.flatten(1).T  # (layers_a, layers_b)
    sums = torch.outer(rows_k.sum(-1), rows_l.sum(-1)) / ((n - 1) * (n - 2))
    return (trace + sums - 2 / (n - 2) * rows_k @ rows_l.T) / (n * (n - 3))


class _Sums:
    """HSIC between layers, summed over batches: averages of ratios would be biased, a ratio of averages is not."""

    def __init__(self) -> None:
        self.num_images = 0
        self.num_batches = 0
        self.between: Tensor | float = 0.0
        self.within_a: Tensor | float = 0.0
        self.within_b: Tensor | float = 0.0
        self.spread_a: Tensor | float = 0.0
        self.spread_b: Tensor | float = 0.0

    def add(self, features_a: list[Tensor], features_b: list[Tensor]) -> None:
        """Take in one batch, features (images, ...) of each layer."""
        num_images = len(features_a[0])
        if num_images < _LEAST_IMAGES:
            raise ValueError(
                f"the unbiased estimate needs batches of {_LEAST_IMAGES} images or more, got one of {num_images}; use "
                "larger batches, or leave a last small one out (drop_last)"
            )
        grams_a, spread_a = _grams(features_a)
        grams_b, spread_b = _grams(features_b)
        self.between = self.between + unbiased_hsic(grams_a, grams_b)
        self.within_a = self.within_a + _diagonal(grams_a)
        self.within_b = self.within_b + _diagonal(grams_b)
        self.spread_a, self.spread_b = self.spread_a + spread_a, self.spread_b + spread_b
        self.num_images += num_images
        self.num_batches += 1

    def similarity(self, layers_a: Sequence[str], layers_b: Sequence[str]) -> Tensor:
        """Return the matrix of CKA, or say which layer has none."""
        if not self.num_batches:
            raise ValueError("there are no batches to compare the layers on; give at least one, of four images or more")
        for layers, within, spread in (
            (layers_a, self.within_a, self.spread_a),
            (layers_b, self.within_b, self.spread_b),
        ):
            for index, name in enumerate(layers):
                if spread[index] / self.num_batches <= _LEAST_SPREAD:
                    raise ValueError(
                        f"layer {name!r} gives the same for every image, so it is like nothing and CKA is not defined; "
                        "leave it out, or use images that differ"
                    )
                if within[index] <= 0:
                    raise ValueError(
                        f"layer {name!r} finds all images about equally unlike in batches this small, so CKA is not "
                        "defined; use larger batches, or more of them"
                    )
        return (self.between / torch.outer(self.within_a, self.within_b).sqrt()).float().cpu()


def _features(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    with evaluating(model), torch.no_grad(), watched(model, layers) as outputs:
        model(images)
    missing = [name for name in layers if name not in outputs]
    if missing:
        raise ValueError(f"layer {missing[0]!r} did not run, or gives no tensor; leave it out")
    strange = [name for name in layers if len(outputs[name]) != len(images)]
    if strange:
        raise ValueError(
            f"layer {strange[0]!r} gives {tuple(outputs[strange[0]].shape)} for {len(images)} images, not one result "
            "for each; leave it out"
        )
    return outputs


def _grams(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return inner products (layers, images, images), and the share of each layer's squares that is not its mean."""
    grams, spreads = [], []
    for layer in features:
        flat = layer.flatten(1).double()  # (images, numbers)
        # The estimate does not change with the mean, but rounding does.
        centered = flat - flat.mean(0)
        grams.append(centered @ centered.T)
        spreads.append(centered.square().sum() / flat.square().sum().clamp(min=1e-300))
    return torch.stack(grams), torch.stack(spreads)


def _diagonal(grams: Tensor) -> Tensor:
    return torch.stack([unbiased_hsic(gram[None], gram[None])[0, 0] for gram in grams])
