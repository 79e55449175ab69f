"""Models that are called with images and give logits; all take image_size, num_classes and in_channels."""

from vitlab.models.blocks import Block
from vitlab.models.dense_head import DenseHead
from vitlab.models.heads import ClassifierHead, Head
from vitlab.models.resnet import ResNet, ResNetShape
from vitlab.models.rnn import RNN, LastStateHead, RNNShape
from vitlab.models.spatial_attention import SpatialAttention
from vitlab.models.timm_model import TimmModel
from vitlab.models.tokenizers import ConvStem, PatchTokenizer, PixelTokenizer, Tokenizer
from vitlab.models.transcription_head import TranscriptionHead
from vitlab.models.vit import Intermediates, ViT, ViTShape

__all__ = [
    "RNN",
    "Block",
    "ClassifierHead",
    "ConvStem",
    "DenseHead",
    "Head",
    "Intermediates",
    "LastStateHead",
    "PatchTokenizer",
    "PixelTokenizer",
    "RNNShape",
    "ResNet",
    "ResNetShape",
    "SpatialAttention",
    "TimmModel",
    "Tokenizer",
    "TranscriptionHead",
    "ViT",
    "ViTShape",
]
