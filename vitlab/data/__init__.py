"""Data sets, nested subsets, augmentation and the loaders that serve them to a Lightning trainer."""

from vitlab.data.batch_augmentation import BatchAugmentation
from vitlab.data.datamodule import DataModule
from vitlab.data.datasets import ArrayImages, Digits, Glyphs, ImageDataset, Images, Target
from vitlab.data.decoding import read_image
from vitlab.data.device_loader import EpochOrder, InMemoryLoader, WorkerLoader
from vitlab.data.digit_lines import DigitLines
from vitlab.data.glyph_masks import GlyphMasks
from vitlab.data.image_folder import FileImages, ImageFolder
from vitlab.data.pairs_at_distance import PairsAtDistance
from vitlab.data.resident_loader import ResidentLoader
from vitlab.data.shard_loader import ShardLoader
from vitlab.data.statistics import channel_statistics
from vitlab.data.subsets import balanced_order, nested_subsets, proportional_order, split_validation, write_manifest
from vitlab.data.torchvision_datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from vitlab.data.transforms import Augmentation

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "ArrayImages",
    "Augmentation",
    "BatchAugmentation",
    "DataModule",
    "DigitLines",
    "Digits",
    "EpochOrder",
    "FashionMNIST",
    "FileImages",
    "GlyphMasks",
    "Glyphs",
    "ImageDataset",
    "ImageFolder",
    "Images",
    "InMemoryLoader",
    "PairsAtDistance",
    "ResidentLoader",
    "ShardLoader",
    "Target",
    "WorkerLoader",
    "balanced_order",
    "channel_statistics",
    "nested_subsets",
    "proportional_order",
    "read_image",
    "split_validation",
    "write_manifest",
]
