"""Looking inside: what a part of a model says and does, as numbers and pictures."""

from vitlab.inspection.attention_distance import (
    attention_entropy,
    attention_mass,
    head_similarity,
    mean_attention_distance,
)
from vitlab.inspection.attention_maps import class_relevance, class_token_map, gradient_rollout, rollout, token_map
from vitlab.inspection.attributions import grad_cam, integrated_gradients, occlusion
from vitlab.inspection.capture import LayerInfo, Record, capture
from vitlab.inspection.corruptions import CORRUPTIONS, corrupt
from vitlab.inspection.feature_maps import layer_names
from vitlab.inspection.filters import first_layer_filters, plot_filters
from vitlab.inspection.page import AttentionPage, attention_page
from vitlab.inspection.position_similarity import plot_positions, position_similarity
from vitlab.inspection.probes import (
    drop_patches,
    occlude,
    predict_classes,
    shift_consistency,
    shift_images,
    shuffle_patches,
)
from vitlab.inspection.receptive_field import EffectiveReceptiveField, effective_receptive_field
from vitlab.inspection.robustness_table import ProbeRow, robustness_table, table_as_csv, table_as_markdown
from vitlab.inspection.similarity import LayerSimilarity, cka, feature_cka
from vitlab.inspection.theoretical_field import theoretical_receptive_field

__all__ = [
    "CORRUPTIONS",
    "AttentionPage",
    "EffectiveReceptiveField",
    "LayerInfo",
    "LayerSimilarity",
    "ProbeRow",
    "Record",
    "attention_entropy",
    "attention_mass",
    "attention_page",
    "capture",
    "cka",
    "class_relevance",
    "class_token_map",
    "corrupt",
    "drop_patches",
    "effective_receptive_field",
    "feature_cka",
    "first_layer_filters",
    "grad_cam",
    "gradient_rollout",
    "head_similarity",
    "integrated_gradients",
    "layer_names",
    "mean_attention_distance",
    "occlude",
    "occlusion",
    "plot_filters",
    "plot_positions",
    "position_similarity",
    "predict_classes",
    "robustness_table",
    "rollout",
    "shift_consistency",
    "shift_images",
    "shuffle_patches",
    "table_as_csv",
    "table_as_markdown",
    "theoretical_receptive_field",
    "token_map",
]
