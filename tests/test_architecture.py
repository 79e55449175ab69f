"""The shape of the code: who may import whom, and how large, how named things may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vitlab"

# Folders import only folders above them; files only files listed earlier in their own folder.
FOLDERS = {
    "attention": [
        *("grid", "scores", "normalizers", "positions", "absolute_positions", "relative_positions", "rotary_positions"),
        *("conditional_positions", "continuous_positions", "tiling", "patterns", "windows", "graphs", "combinations"),
        *("gathering", "tiled", "linear", "self_attention", "convolution", "recurrent"),
    ],
    "data": [
        *("subsets", "image_stream", "glyphs", "decoding", "transforms", "statistics", "datasets", "glyph_masks"),
        *("digit_lines", "pairs_at_distance", "torchvision_datasets"),
        *("shard_claims", "shard_files", "shard_builder", "decoded_images"),
        *("byte_images", "batch_geometry", "batch_crops", "batch_colors", "batch_jitter", "batch_augmentation"),
        *("image_folder", "device_loader", "resident_loader", "shard_loader", "datamodule"),
    ],
    "models": [
        *("tokenizers", "heads", "dense_head", "transcription_head", "blocks", "mixed_sizes", "timm_weights", "vit"),
        "convolved_linear",
        *("spatial_attention", "resnet", "rnn", "timm_model"),
    ],
    "training": [
        *("optimizer", "transcription", "objective", "label_objective", "mask_objective", "sequence_objective"),
        *("sharding", "classifier", "predictions", "settings_errors", "resume", "quick_loop", "speed", "run"),
        *("memory", "limits", "plain_vit", "throughput", "variants", "step_cost", "loop_cost", "input_cost"),
        *("attention_cost", "sequence_cost", "checkpoint"),
    ],
    "inspection": [
        *("position_similarity", "kernel_call", "capture", "attention_maps", "attention_distance"),
        *("feature_maps", "receptive_field", "theoretical_field", "similarity", "filters", "attributions"),
        *("corruptions", "probes", "robustness_table"),
        *("model_maps", "drawing", "page_data", "page", "measures"),
    ],
    "sweep": [
        *(
            "store",
            "kept_predictions",
            "nested_settings",
            "planned_trial",
            "plan",
            "plan_file",
            "selection",
            "rate_race",
        ),
        *("rate_search", "sweep_file", "record", "schedule", "shared_plan", "owners", "untrained_plan"),
        *("claims", "slurm_queue"),
        *("slurm_cancel", "status", "merge", "verify", "progress", "peak_memory", "trial"),
        *("srun", "worker", "worker_process", "in_process", "task_runner"),
        *("session_settings", "session", "local_launcher", "slurm_job", "slurm_submission", "slurm_watch"),
        *("slurm_checks", "budget", "slurm_launcher", "checked_plan"),
    ],
    "analysis": [
        *("wording", "reference_curves", "targets", "bootstrap", "selection", "curve_models", "curve_fitting"),
        *("learning_curves", "running_best"),
        *("curve_rows", "curve_backtest", "curve_extrapolation", "fitted_curves", "significance", "power", "contrasts"),
        *("image_comparison", "differences", "lead_changes", "crossover_wording", "crossover", "curve_crossing"),
        *("outlook", "refinement_costs", "refinement_candidates", "refinement_wording", "refinement"),
        *("data_efficiency", "finding", "arms", "comparisons", "fairness_tuning", "fairness_data", "fairness_training"),
        *("fairness_models", "fairness_environment", "fairness_one_class", "fairness"),
        *("dial_places", "dial", "task_result", "sweep_pairing", "crossover_shift", "settings_diff", "fairness_across"),
        *("sweep_comparison", "comparison_wording", "summary", "views", "tables", "drawing"),
        *("panels", "reference_figure", "figures", "dial_figure"),
        *("measured_curves", "curves_figure", "curves_file", "chart", "dial_chart", "page_style"),
        *(
            "page_tables",
            "fairness_box",
            "efficiency_table",
            "pair_tables",
            "comparison_tables",
            "refinement_table",
            "reference_chart",
        ),
        *("rate_choices", "training_courses", "chart_data", "page", "latex"),
        *("report", "claim_evidence", "claim_rules", "claims"),
    ],
    "commands": ["refining", "sweeps", "folders", "reports", "inspection", "benchmarks"],
}
ROOT_FILES = {"__init__", "atomic_file", "cli"}
# What a folder may import of its own project beyond the order above, and of other projects.
WITHOUT_TORCH = {
    "analysis": {
        *("sweep.plan", "sweep.plan_file", "sweep.rate_search", "sweep.store", "sweep.kept_predictions"),
        "sweep.selection",
    }
}
THIRD_PARTY = {
    "attention": {"torch"},
    "data": {"torch", "torchvision", "lightning", "numpy", "sklearn", "PIL", "albumentations", "cv2"},
    "models": {"torch", "timm", "torchvision", "huggingface_hub", "safetensors"},
    "training": {"torch", "torchvision", "torchmetrics", "lightning", "timm", "numpy", "yaml"},
    "inspection": {"torch", "matplotlib", "numpy", "PIL", "captum"},
    "sweep": {"torch", "lightning", "numpy", "yaml", "tqdm", "submitit"},
    "analysis": {"numpy", "scipy", "matplotlib"},
}
BANNED_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "timm", "inspect", "torch"}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_CONSTRUCTOR_ARGUMENTS = 300, 50, 9

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def imports(path):
    """All imported modules, those inside functions included, as dotted names."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path):
    return [node for node in ast.walk(TREES[path]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_every_file_has_its_place_in_the_order():
    found = {folder: {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__"} for folder in FOLDERS}
    assert found == {folder: set(names) for folder, names in FOLDERS.items()}
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_FILES
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == set(FOLDERS)


@each_file
def test_imports_point_upward(path):
    folder = path.parent.name
    if path.parent == PACKAGE:
        return
    order = list(FOLDERS)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "vitlab" or len(parts) == 1 or parts[1] in ROOT_FILES:
            assert parts[:2] != ["vitlab", "cli"], f"{path} imports the command line"
            continue
        target = parts[1]
        assert target in order, f"{path} imports {name}"
        assert order.index(target) <= order.index(folder), f"{path} imports {name}, which is below it"
        if target == folder and len(parts) > 2 and parts[2] in FOLDERS[folder] and path.stem != "__init__":
            files = FOLDERS[folder]
            assert files.index(parts[2]) < files.index(path.stem), f"{path} imports {name}, which comes after it"
        if folder in WITHOUT_TORCH and target != folder and len(parts) > 2:
            assert ".".join(parts[1:3]) in WITHOUT_TORCH[folder], f"{path} imports {name}"


@each_file
def test_other_projects_are_imported_only_where_they_belong(path):
    allowed = THIRD_PARTY.get(path.parent.name, set())
    for name in imports(path):
        top = name.split(".")[0]
        assert top == "vitlab" or top in sys.stdlib_module_names or top in allowed, f"{path} imports {name}"
    if path.stem != "transforms":
        assert not {"albumentations", "cv2"} & {name.split(".")[0] for name in imports(path)}


@each_file
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) < MAX_FILE_LINES
    for function in functions(path):
        docstring = ast.get_docstring(function, clean=False) or ""
        lines = function.end_lineno - function.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
        assert lines < MAX_FUNCTION_LINES, f"{path}:{function.lineno} {function.name} has {lines} lines"


@each_file
def test_constructors_are_small_and_name_their_arguments(path):
    for cls in (node for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)):
        for function in (node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"):
            arguments = function.args
            public = not cls.name.startswith("_")
            assert len(arguments.args) - 1 + len(arguments.kwonlyargs) <= MAX_CONSTRUCTOR_ARGUMENTS, cls.name
            assert not (public and arguments.kwarg and cls.name != "TimmModel"), f"{cls.name} takes **kwargs"
            assert not (public and arguments.vararg), f"{cls.name} takes *args"


@each_file
def test_names_say_what_is_inside(path):
    assert path.stem.strip("_") not in BANNED_NAMES
    assert ast.get_docstring(TREES[path]), f"{path} does not say which idea lives in it"


@each_file
def test_nothing_is_left_for_later(path):
    assert not re.search(r"\bTODO|\bFIXME|\bXXX|NotImplementedError", path.read_text())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import vitlab.cli", {"numpy", "torch", "yaml", "matplotlib"}),
        ("import vitlab.sweep.status, vitlab.sweep.local_launcher", {"torch", "lightning", "numpy"}),
        ("import vitlab.analysis.report", {"torch", "lightning", "pandas"}),
        ("import vitlab.attention", {"timm", "lightning", "torchvision"}),
        ("import vitlab.models", {"timm", "lightning", "torchvision"}),
        ("import vitlab.training.run", {"albumentations", "timm", "sklearn"}),
    ],
)
def test_what_is_not_needed_is_not_imported(code, absent):
    command = f"{code}\nimport sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert not absent & set(loaded)
