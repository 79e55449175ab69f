"""Models that are called with images and give logits; all take image_size, num_classes and in_channels."""

from vitlab.models.blocks import Block
from vitlab.models.heads import ClassifierHead
from vitlab.models.resnet import ResNet, ResNetShape
from vitlab.models.timm_model import TimmModel
from vitlab.models.tokenizers import ConvStem, PatchTokenizer, PixelTokenizer, Tokenizer
from vitlab.models.vit import Intermediates, ViT, ViTShape

__all__ = [
    "Block",
    "ClassifierHead",
    "ConvStem",
    "Intermediates",
    "PatchTokenizer",
    "PixelTokenizer",
    "ResNet",
    "ResNetShape",
    "TimmModel",
    "Tokenizer",
    "ViT",
    "ViTShape",
]
