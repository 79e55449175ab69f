"""`vitlab bench` prints a table and leaves the same rows as JSON."""

import json

from vitlab.cli import main
from vitlab.training import input_cost, throughput
from vitlab.training.variants import COMPILED


def test_the_rows_of_the_table_are_in_the_json_file_with_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input_cost, "bench_input", lambda **settings: rows)
    rows = [{"changes": "none", "pipeline": "a", "images_per_second": 1017.0, "ratio": 1.25, "host_ratio": 0.75}]
    assert (
        main(["bench", "input", "--rounds", "3", "--threads", "1", "--json", str(tmp_path / "new" / "input.json")]) == 0
    )
    assert "| none | a | 1,017 | 1.25 | 0.75 |" in capsys.readouterr().out
    document = json.loads((tmp_path / "new" / "input.json").read_text())
    assert document["rows"] == rows
    assert (document["bench"], document["rounds"], document["num_threads"]) == ("input", 3, 1)
    assert document["torch"]
    assert document["cores"] >= 1


def test_a_failed_measurement_leaves_no_file(tmp_path, capsys):
    assert main(["bench", "input", "--rounds", "0", "--json", str(tmp_path / "input.json")]) == 2
    assert "rounds and batch_size must be 1 or more, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_compiling_is_refused_where_there_is_no_model_to_compile(capsys):
    assert main(["bench", "input", "--compile"]) == 2
    assert "--compile is for bench models and variants, and this is bench input" in capsys.readouterr().err


def test_compiled_variants_are_what_is_timed_when_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "bench", lambda pairs, **settings: asked.extend(pairs) or [])
    asked = []
    assert main(["bench", "variants", "--compile"]) == 0
    assert tuple(asked) == COMPILED
    asked.clear()
    assert main(["bench", "models", "--compile"]) == 0
    assert [pair.name for pair in asked] == [f"{pair.name}, both compiled" for pair in throughput.PAIRS]
