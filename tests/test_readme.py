"""Every command on the README runs or is checked, and every figure in its table was measured."""

import argparse
import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vitlab import cli
from vitlab.training import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)


def commands():
    """The lines of all shell blocks, without comments, continued lines joined."""
    for language, block in BLOCKS:
        if language == "bash":
            joined = block.replace("\\\n", " ")
            yield from (line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#"))


def words(command):
    return [word.removeprefix(".venv/bin/") for word in shlex.split(command, comments=True)]


@pytest.mark.parametrize("command", [line for line in commands() if words(line)[0].startswith("scripts/")])
def test_scripts_exist_and_can_be_executed(command):
    script = ROOT / words(command)[0]
    assert script.is_file()
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("command", [line for line in commands() if "vitlab " in line])
def test_vitlab_commands_are_understood_and_their_files_exist(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for path in re.findall(r"configs/[\w/]+\.yaml", command):
        assert Path(path).is_file(), path
    name, *arguments = words(command)
    assert name == "vitlab"
    if arguments[-1] == "--help":
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
    elif arguments[0] in ("fit", "validate", "test", "predict"):
        prepared = run.prepare([word for word in arguments[1:] if not word.startswith("--ckpt_path")])
        assert prepared.model is not None
    else:
        options = cli._parser().parse_args(arguments)
        assert isinstance(options, argparse.Namespace)
        if arguments[0] == "sweep":
            from vitlab.sweep.rate_search import grown
            from vitlab.sweep.sweep_file import read_sweep

            assert grown(read_sweep(options.config, options.overrides), {}).trials


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "python"])
def test_python_examples_run(block, tmp_path):
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_table_holds_what_was_measured():
    with (ROOT / "results" / "demo" / "curves.csv").open() as file:
        measured = {(row["task"], int(row["train_size"]), row["model"]): row for row in csv.DictReader(file)}
    rows = re.findall(r"^\| (glyphs-\w+|digits) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.M)
    assert len(rows) == len(measured) / 2
    for task, size, vit, cnn in rows:
        for model, shown in (("vit", vit), ("cnn", cnn)):
            error = float(measured[task, int(size.replace(",", "")), model]["mean_error"])
            assert shown == f"{100 * (1 - error):.1f}", (task, size, model)


def test_the_pictures_exist():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / path).exists(), path
