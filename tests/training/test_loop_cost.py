import pytest
import torch

from vitlab.training import loop_cost

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")
CASE = loop_cost.LoopCase(
    "digits",
    [
        "--data.dataset=vitlab.data.Digits",
        "--data.train_size=70",
        "--data.val_size=100",
        "--data.batch_size=10",
        "--model.backbone={class_path: vitlab.models.ResNet, init_args: {size: {depths: [1], widths: [4]}}}",
    ],
)


def test_each_epoch_stands_beside_one_of_the_bare_loop_and_the_first_does_not_count(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    (row,) = loop_cost.bench_loop(rounds=3, num_threads=1, cases=[CASE])
    assert torch.get_num_threads() == threads
    assert (row["name"], row["steps"]) == ("digits", 7)
    # A model of this size is mostly overhead: the bare loop takes part of the time, not all of it.
    assert 0 < row["share_low"] <= row["share"] <= row["share_high"] < 1
    assert 0 < row["share_cpu"] < 1
    assert row["bare_ms"] < row["fit_ms"]
    assert not list(tmp_path.iterdir())
    assert "Epoch" not in capfd.readouterr().out
    table = loop_cost.format_loop_table([row]).splitlines()
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1


def test_the_bare_loop_trains_a_copy_and_leaves_the_training_as_it_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = []

    class Keep(loop_cost.BareLoop):
        def on_train_end(self, trainer, pl_module):
            models.append((pl_module.backbone, self._model))

    monkeypatch.setattr(loop_cost, "BareLoop", Keep)
    measured = loop_cost.measure_loop([*CASE.arguments, "--trainer.accelerator=cpu"], 1)
    assert len(measured.bare) == len(measured.fit) == 1
    trained, bare = models[0]
    assert all(torch.isfinite(weight).all() for weight in bare.parameters())
    pairs = zip(trained.parameters(), bare.parameters(), strict=True)
    assert any(not torch.equal(weight, other) for weight, other in pairs)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be 1 or more, got 0"):
        loop_cost.bench_loop(rounds=0)


def test_the_cases_are_what_vitlab_fit_takes():
    from vitlab.training import run

    for case in loop_cost.CASES:
        cli = run.prepare([*case.arguments, "--trainer.max_epochs=1"])
        assert cli.datamodule.batch_size in (64, 128), case.name
