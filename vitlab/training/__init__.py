"""Training one model: the optimizer, the LightningModule, and the run from arguments to metrics."""

from vitlab.training.classifier import Classifier
from vitlab.training.optimizer import SGD, AdamW, Muon, OptimizerRecipe

__all__ = ["SGD", "AdamW", "Classifier", "Muon", "OptimizerRecipe"]
