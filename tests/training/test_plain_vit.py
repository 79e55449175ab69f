import torch

from vitlab.models import ViTShape
from vitlab.training.plain_vit import PlainViT


def test_it_classifies_and_every_weight_learns():
    torch.manual_seed(0)
    model = PlainViT(image_size=12, patch_size=4, num_classes=7, shape=ViTShape(22, 2, 2, 34))
    logits = model(torch.randn(5, 3, 12, 12))
    assert logits.shape == (5, 7)
    logits.pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
