import pytest
import torch
from torch import nn

from vitlab.inspection import effective_receptive_field, grad_cam
from vitlab.inspection.model_maps import model_maps
from vitlab.models import ResNet, TimmModel, ViT, ViTShape

pytest.importorskip("captum")


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_cnn_and_a_vit_have_the_same_maps(images):
    shape = ViTShape(dim=24, depth=2, num_heads=3, mlp_dim=24)
    vit = ViT(image_size=16, num_classes=5, patch_size=4, size=shape)
    found = [model_maps(model, images, "model") for model in (vit, ResNet(image_size=16, num_classes=5, size="micro"))]
    assert list(found[0]) == list(found[1])
    assert [tuple(values.shape) for values in found[1].values()] == [(2, 16, 16), (16, 16)]


def test_they_are_grad_cam_of_what_the_model_says_and_its_receptive_field(images):
    model = TimmModel("resnet10t", image_size=16, num_classes=5).eval()
    cam, field = model_maps(model, images, "model").values()
    assert torch.allclose(cam, grad_cam(model.model, images, model(images).argmax(dim=-1)))
    assert torch.allclose(field, effective_receptive_field(model.model, images).map)


def test_a_model_in_training_is_left_as_it_was(images):
    model = ResNet(image_size=16, num_classes=5, size="micro").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model_maps(model, images, "model")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_a_model_has_not_is_said(images):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3 * 16 * 16, 5)

        def forward(self, images):
            return self.layer(images.flatten(1))

    with pytest.warns(UserWarning, match="flat has no ") as warned:
        assert model_maps(Flat(), images, "flat") == {}
    words = [str(warning.message) for warning in warned]
    assert words[0].startswith("flat has no Grad-CAM: no layer of Flat gives a map")
    assert words[1].startswith("flat has no effective receptive field: ")
