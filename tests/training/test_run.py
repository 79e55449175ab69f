"""`vitlab fit` and its sisters through their real command line."""

import json

import pytest
import torch
import yaml

from vitlab.cli import main
from vitlab.training import run

CONFIG = """
data:
  dataset: {class_path: vitlab.data.Digits}
  train_size: 50
  val_size: 100
  batch_size: 32
model:
  learning_rate: 0.01
  backbone:
    class_path: vitlab.models.ViT
    init_args: {patch_size: 4, size: {dim: 12, depth: 1, num_heads: 2, mlp_dim: 12}}
trainer: {accelerator: cpu, max_steps: 4, max_epochs: -1, enable_progress_bar: false, log_every_n_steps: 1}
"""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return "--config=config.yaml"


def metrics_of(output):
    return {
        line.split()[0]: float(line.split()[1]) for line in output.splitlines() if line.startswith(("val/", "test/"))
    }


def test_fit_trains_prints_validation_and_leaves_config_checkpoint_and_manifest(config, tmp_path, capsys):
    assert main(["fit", config]) == 0
    assert set(metrics_of(capsys.readouterr().out)) == {
        f"val/{name}" for name in ("accuracy", "top5_accuracy", "nll", "calibration_error")
    }
    (version,) = (tmp_path / "lightning_logs").iterdir()
    assert len(json.loads((version / "subset.json").read_text())["indices"]) == 50
    assert yaml.safe_load((version / "config.yaml").read_text())["data"]["train_size"] == 50
    assert len(list((version / "checkpoints").iterdir())) == 1


def test_a_checkpoint_is_safe_to_load_and_gives_the_same_test_metrics(config, tmp_path, capsys):
    main(["fit", config, "--test_after_fit=true"])
    fitted = metrics_of(capsys.readouterr().out)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert "state_dict" in torch.load(checkpoint, weights_only=True)
    assert main(["test", config, f"--ckpt_path={checkpoint}"]) == 0
    tested = capsys.readouterr().out
    assert f"{fitted['test/accuracy']:.6g}"[:6] in tested


def test_validate_reports_the_validation_metrics(config, tmp_path, capsys):
    main(["fit", config])
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    capsys.readouterr()
    assert main(["validate", config, f"--ckpt_path={checkpoint}"]) == 0
    assert "val/accuracy" in capsys.readouterr().out


def test_predict_writes_one_row_per_test_image(config, tmp_path, capsys):
    main(["fit", config])
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert main(["predict", config, f"--ckpt_path={checkpoint}", "--trainer.default_root_dir=out"]) == 0
    header, *rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert header == "image,label,predicted,confidence"
    images = [int(row.split(",")[0]) for row in rows]
    assert images == list(range(len(rows)))
    assert len(rows) > 300
    assert all(0.1 <= float(row.split(",")[3]) <= 1 for row in rows)


def test_a_second_fit_in_the_same_folder_goes_through_also_without_a_logger(config, tmp_path):
    for _ in range(2):
        assert main(["fit", config, "--trainer.logger=false", "--trainer.enable_checkpointing=false"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == CONFIG


@pytest.mark.parametrize(("given", "parsed"), [("1", 1), ("1.0", 1.0), ("0.25", 0.25)])
def test_a_limit_of_one_batch_means_one_batch(config, given, parsed):
    cli = run.prepare([config, f"--trainer.limit_val_batches={given}"])
    limit = cli.trainer.limit_val_batches
    assert limit == parsed
    assert type(limit) is type(parsed)


def test_facts_about_the_data_reach_the_model(config):
    cli = run.prepare([config])
    image = torch.zeros(2, 1, 8, 8)
    assert cli.model(image).shape == (2, 10)


def test_later_configs_win_and_may_change_the_class(config, tmp_path):
    (tmp_path / "other.yaml").write_text(
        "model: {backbone: {class_path: vitlab.models.ResNet, init_args: {size: micro}}}"
    )
    cli = run.prepare([config, "--config=other.yaml"])
    assert type(cli.model.backbone).__name__ == "ResNet"
    assert cli.model.learning_rate == 0.01


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(config):
    def weights(seed):
        cli = run.fit([config, f"--seed_everything={seed}", f"--data.seed={seed}"])
        return torch.cat([parameter.detach().flatten() for parameter in cli.model.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


CHECKPOINTS = """
trainer:
  callbacks:
  - class_path: lightning.pytorch.callbacks.ModelCheckpoint
    init_args: {dirpath: saved, filename: "{step}", every_n_train_steps: 3, save_top_k: -1}
"""
SHAKY = "{dim: 12, depth: 1, num_heads: 2, mlp_dim: 12, dropout: 0.3}"


@pytest.mark.parametrize("when", ["in mid-epoch", "at an epoch's end"])
def test_fit_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(config, tmp_path, when):
    (tmp_path / "checkpoints.yaml").write_text(
        CHECKPOINTS if when == "in mid-epoch" else CHECKPOINTS.replace("train_steps: 3", "epochs: 1")
    )
    settings = [config, f"--model.backbone.init_args.size={SHAKY}", "--data.batch_size=12", "--model.mixup_alpha=0.4"]
    settings += ["--config=checkpoints.yaml", "--trainer.max_steps=9", "--trainer.logger=false"]

    def train(*arguments):
        assert main(["fit", *settings, *arguments]) == 0
        return sorted((tmp_path / "saved").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    def weights(path):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["global_step"] == 9
        return checkpoint["state_dict"]

    first, *_, last = train()
    assert first.name == ("step=3.ckpt" if when == "in mid-epoch" else "step=4.ckpt")
    undisturbed = weights(last)
    last.unlink()
    resumed = weights(train(f"--ckpt_path={first}")[-1])
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)


def test_the_config_that_fit_would_use_can_be_printed(config, capsys):
    with pytest.raises(SystemExit) as end:
        main(["fit", config, "--print_config"])
    assert end.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["train_size"] == 50


MASKS = "{class_path: vitlab.data.GlyphMasks, init_args: {num_train: 60, num_test: 13}}"
LINES = "{class_path: vitlab.data.DigitLines, init_args: {num_train: 60, num_val: 11, num_test: 13}}"
OTHER_TARGETS = {
    "mask": (MASKS, "vitlab.models.DenseHead", {"accuracy", "mean_iou", "nll"}),
    "sequence": (
        LINES,
        "vitlab.models.TranscriptionHead",
        {"accuracy", "edit_distance", "character_error_rate", "nll"},
    ),
}


def other_target(target):
    dataset, head, names = OTHER_TARGETS[target]
    sizes = ["--data.train_size=30", "--data.val_size=10"]
    return [f"--data.dataset={dataset}", f"--model.backbone.init_args.head={head}", *sizes], names


@pytest.mark.parametrize("target", OTHER_TARGETS)
def test_masks_and_sequences_go_from_config_to_test_metrics_and_back_from_a_checkpoint(
    config, tmp_path, capsys, target
):
    arguments, names = other_target(target)
    assert main(["fit", config, *arguments, "--test_after_fit=true"]) == 0
    fitted = metrics_of(capsys.readouterr().out)
    assert set(fitted) == {f"{stage}/{name}" for stage in ("val", "test") for name in names}
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["hyper_parameters"]["target"] == target
    assert main(["test", config, *arguments, f"--ckpt_path={checkpoint}"]) == 0
    assert f"{fitted['test/nll']:.6g}"[:6] in capsys.readouterr().out


@pytest.mark.parametrize("target", OTHER_TARGETS)
def test_the_data_decide_the_target_and_nothing_else_may(config, target):
    arguments, names = other_target(target)
    cli = run.prepare([config, *arguments])
    assert cli.datamodule.target == target
    assert set(cli.model.objective.make_metrics()) == names
    with pytest.raises(ValueError, match=r"model\.target"):
        run.prepare([config, *arguments, "--model.target=label"])


def test_predict_writes_out_sequences_and_refuses_masks(config, tmp_path, capsys):
    arguments, _ = other_target("sequence")
    assert main(["predict", config, *arguments, "--trainer.default_root_dir=out"]) == 0
    header, *rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert header == "image,sequence,predicted"
    assert [len(row.split(",")[1].split()) for row in rows] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3]
    assert all(set(row.split(",")[2]) <= set("0123456789 ") for row in rows)
    arguments, _ = other_target("mask")
    assert main(["predict", config, *arguments, "--trainer.default_root_dir=out2"]) == 2
    assert "the target here is a mask" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "argument", "words"),
    [
        ("mask", "--model.backbone.init_args.head=vitlab.models.ClassifierHead", "head: vitlab.models.DenseHead"),
        (
            "sequence",
            "--model.backbone.init_args.head=vitlab.models.DenseHead",
            "head: vitlab.models.TranscriptionHead",
        ),
        ("mask", "--data.augmentation={class_path: vitlab.data.Augmentation}", "a mask must move with its image"),
        ("sequence", "--data.augmentation.horizontal_flip=true", "a sequence must move with its image"),
        ("mask", "--model.mixup_alpha=0.2", "the target here is a mask; set mixup_alpha and cutmix_alpha to 0"),
        ("sequence", "--model.backbone.init_args.patch_size=12", "patch_size 12 does not divide image_size 12 x 56"),
        ("sequence", "--model.label_smoothing=0.1", "sequences trained with CTC take none"),
    ],
)
def test_what_does_not_go_with_a_target_is_one_clear_error(config, capsys, target, argument, words):
    arguments, _ = other_target(target)
    assert main(["fit", config, *arguments, argument]) == 2
    assert words in capsys.readouterr().err


def test_steps_too_few_for_a_sequence_are_one_clear_error(config, capsys):
    arguments, _ = other_target("sequence")
    wide = LINES.replace("init_args: {", "init_args: {image_size: [14, 56], max_digits: 5, ")
    arguments[0] = f"--data.dataset={wide}"
    assert main(["fit", config, *arguments, "--model.backbone.init_args.patch_size=14"]) == 2
    assert "and the model has 4; use a smaller patch_size or wider images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--model.backbone=vitlab.models.Vit", "vitlab.models.Vit"),
        ("--model.backbone.init_args.patch_size=3", "patch_size 3 does not divide image_size 8; use 1, 2, 4 or 8"),
        ("--data.train_size=5000", "5000"),
        ("--data.train_size=0", "train_size 0"),
        ("--config=nowhere.yaml", "nowhere.yaml"),
        ("--num_threads=0", "num_threads is 0; give 1 or more"),
        ("--data.dataset={class_path: vitlab.data.ImageFolder, init_args: {root: nowhere, image_size: 8}}", "nowhere"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(config, tmp_path, capsys, argument, words):
    assert main(["fit", config, argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vitlab: error: ")
    assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
