"""`vitlab bench` prints a table and leaves the same rows as JSON."""

import json

from vitlab.cli import main
from vitlab.training import input_cost


def test_the_rows_of_the_table_are_in_the_json_file_with_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input_cost, "bench_input", lambda **settings: rows)
    rows = [{"changes": "none", "pipeline": "a", "images_per_second": 1017.0, "ratio": 1.25}]
    assert (
        main(["bench", "input", "--rounds", "3", "--threads", "1", "--json", str(tmp_path / "new" / "input.json")]) == 0
    )
    assert "| none | a | 1,017 | 1.25 |" in capsys.readouterr().out
    document = json.loads((tmp_path / "new" / "input.json").read_text())
    assert document["rows"] == rows
    assert (document["bench"], document["rounds"], document["num_threads"]) == ("input", 3, 1)
    assert document["torch"]
    assert document["cores"] >= 1


def test_a_failed_measurement_leaves_no_file(tmp_path, capsys):
    assert main(["bench", "input", "--rounds", "0", "--json", str(tmp_path / "input.json")]) == 2
    assert "rounds and batch_size must be 1 or more, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
