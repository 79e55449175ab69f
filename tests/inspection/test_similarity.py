import itertools

import pytest
import torch
from torch import nn

from vitlab.inspection import cka, feature_cka
from vitlab.inspection.similarity import unbiased_hsic
from vitlab.models import ResNet, ResNetShape, ViT, ViTShape


def features(images, dim, seed=0):
    return torch.randn(images, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_features_are_like_their_own_rotation_scaling_and_shift():
    x = features(23, 7)
    rotation = torch.linalg.qr(features(7, 7, seed=1)).Q
    assert feature_cka(x, x) == pytest.approx(1, abs=1e-6)
    assert feature_cka(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-6)
    assert feature_cka(x, 3 * x @ rotation + 5, batch_size=5 + 1) == pytest.approx(1, abs=1e-6)


def test_independent_features_have_nothing_in_common_however_small_the_batches():
    for batch_size in (5, 50, None):
        values = [feature_cka(features(500, 40, seed), features(500, 30, seed + 100), batch_size) for seed in range(5)]
        # The biased estimator gives about 0.9 in batches of 5, and 0.13 on all 500.
        assert abs(sum(values) / 5) < 0.05


def test_any_linear_map_keeps_less_than_a_rotation():
    x = features(50, 7)
    stretched = x * torch.tensor([9.0, 1, 1, 1, 1, 1, 1])
    assert 0.1 < feature_cka(x, stretched) < 0.9


def test_the_estimator_is_the_average_over_all_fours_of_images():
    n = 6
    k, l = features(n, 4) @ features(n, 4).T, features(n, 5, 1) @ features(n, 5, 1).T  # noqa: E741
    fours = list(itertools.permutations(range(n), 4))
    # Gretton et al., 2005: E[k(1,2) l(1,2)] + E[k(1,2) l(3,4)] - 2 E[k(1,2) l(1,3)] over different images.
    expected = sum(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in fours) / len(fours)
    torch.testing.assert_close(unbiased_hsic(k[None], l[None])[0, 0], expected)


def test_batches_are_averaged_before_the_ratio_is_taken():
    x, y = features(26, 4), features(26, 4) + features(26, 4, 1)

    def hsic(a, b):
        parts = zip(a.split(13), b.split(13), strict=True)
        return sum(unbiased_hsic((p @ p.T)[None], (q @ q.T)[None])[0, 0] for p, q in parts) / 2

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()
    assert feature_cka(x, y, batch_size=13) == pytest.approx(expected.item(), abs=1e-6)


def small_models():
    torch.manual_seed(0)
    vit = ViT(image_size=(12, 20), num_classes=7, patch_size=4, size=ViTShape(12, 2, 3, 24))
    return vit, ResNet(num_classes=7, size=ResNetShape([1, 1, 1], [8, 8, 16]))


def test_layers_of_two_families_are_compared_one_by_one():
    vit, resnet = small_models()
    images = torch.randn(15, 3, 12, 20)
    result = cka(vit, resnet, images.split(5))
    assert result.layers_a == ["blocks.0", "blocks.1"]
    assert result.layers_b == ["stages.0.0", "stages.1.0", "stages.2.0"]
    assert (result.matrix.shape, result.num_images) == ((2, 3), 15)
    tokens = vit.eval().forward_intermediates(images).blocks[1].flatten(1)
    maps = resnet.eval().forward_features(images).flatten(1)
    assert result.matrix[1, 2] == pytest.approx(feature_cka(tokens, maps, batch_size=5), abs=1e-5)


def test_a_model_is_like_itself_and_labels_of_a_batch_are_ignored():
    vit, _ = small_models()
    images = torch.randn(10, 3, 12, 20)
    result = cka(vit, vit, [(part, torch.zeros(5)) for part in images.split(5)])
    torch.testing.assert_close(result.matrix.diagonal(), torch.ones(2))
    torch.testing.assert_close(result.matrix, result.matrix.T)
    assert result.matrix[0, 1] < 0.999


def test_chosen_layers_keep_their_order():
    vit, resnet = small_models()
    layers = ["stages.2.0", "stem", "classifier"]
    result = cka(vit, resnet, [torch.randn(5, 3, 12, 20)], layers_b=layers)
    assert result.layers_b == layers
    again = cka(resnet, resnet, [torch.randn(5, 3, 12, 20)], layers_a=layers, layers_b=layers[::-1])
    torch.testing.assert_close(again.matrix.flip(1).diagonal(), torch.ones(3))


def test_models_are_left_as_they_were_also_after_an_error():
    vit, resnet = small_models()
    vit.train()
    with pytest.raises(ValueError, match="batches of 4 images or more, got one of 3"):
        cka(vit, resnet, torch.randn(8, 3, 12, 20).split(5))
    with pytest.raises(RuntimeError):
        cka(vit, resnet, [torch.randn(5, 2, 12, 20)])
    assert all(module.training for module in vit.modules())
    assert not any(module._forward_hooks for model in (vit, resnet) for module in model.modules())


def test_features_that_tell_no_images_apart_are_named():
    x = features(9, 5)
    with pytest.raises(ValueError, match="layer 'features_b' gives the same for every image"):
        feature_cka(x, torch.full((9, 3), 0.1) + 1e-9 * features(9, 3))
    with pytest.raises(ValueError, match="layer 'features_a' finds all images about equally unlike"):
        feature_cka(torch.eye(9), x)


@pytest.mark.parametrize(
    ("layers", "batches", "message"),
    [
        (None, [], "there are no batches"),
        (["blocks.7"], [torch.randn(5, 3, 12, 20)], "ViT has no layer 'blocks.7'"),
        (["blocks"], [torch.randn(5, 3, 12, 20)], "layer 'blocks' did not run"),
        (None, [torch.zeros(5, 3, 12, 20, dtype=torch.uint8)], "floating-point numbers, got torch.uint8"),
    ],
)
def test_what_cannot_be_compared_is_refused(layers, batches, message):
    vit, resnet = small_models()
    with pytest.raises(ValueError, match=message):
        cka(vit, resnet, batches, layers_a=layers)


def test_a_layer_that_mixes_the_batch_is_refused():
    class Mixes(nn.Module):
        def forward(self, images):
            return images.mean(0, keepdim=True)

    with pytest.raises(ValueError, match="not one result for each"):
        cka(Mixes(), Mixes(), [torch.randn(5, 3, 2, 2)], layers_a=[""], layers_b=[""])


def test_different_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="both must be of the same images, got 5 and 7 vectors"):
        feature_cka(features(5, 3), features(7, 3))
