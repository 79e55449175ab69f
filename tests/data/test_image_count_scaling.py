"""`scripts/image_count_scaling` extrapolates as by hand, and the bytes in its table are those of the files."""

import json
import math
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import SimpleNamespace

import pytest


@pytest.fixture
def scaling(root):
    loader = SourceFileLoader("image_count_scaling", str(root / "scripts" / "image_count_scaling"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_twice_the_images_and_four_times_the_seconds_are_a_power_of_two(scaling):
    assert scaling.power_of(10, 3, 20, 12) == pytest.approx(2)
    # Only the last two sizes count, and twice the images are four times the seconds again.
    assert scaling.extrapolated([1, 10, 20], [99, 3, 12], 40) == pytest.approx(48)


def test_seconds_follow_their_power_and_memory_grows_in_proportion(scaling):
    rows = scaling.table_beyond({"made up": {10: (1.0, 0, 5e9), 20: (2.0, 0, 2e10)}, "once": {10: (1.0, 0, 1)}})
    assert rows[2:] == [
        "| made up | 1,281,167 | 128,117 |  | 1,281,167 |",
        "| made up | 14,197,122 | 1,419,712 |  | 14,197,122 |",
        "| made up | 303,000,000 | 30,300,000 |  | 303,000,000 |",
    ]
    rows = scaling.table_beyond({"made up": {10: (1.0, 1, 1), 20: (4.0, 1, 1)}})
    assert rows[-1].split(" | ")[2] == f"{4 * (303_000_000 / 20) ** 2:,.0f}"


def test_folders_grow_in_proportion(scaling):
    rows = scaling.table_beyond({"listing a folder (ImageFolder)": {10: (1.0, 0, 1e9), 20: (4.0, 0, 1e9)}})
    assert rows[-1] == "| listing a folder (ImageFolder) | 303,000,000 | 60,600,000 |  | 15,150,000 |"


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory in /proc")
def test_every_part_is_measured_and_its_files_weighed(scaling, tmp_path, monkeypatch, capsys):
    def in_this_process(part, size, folder):
        sent = []
        scaling.measured(part, size, folder, SimpleNamespace(send=sent.append))
        if part is scaling.manifest_written:
            written[size] = (folder / "manifest" / f"{size}.json").stat().st_size
            content = json.loads((folder / "manifest" / f"{size}.json").read_text())
            assert sorted(content["indices"]) == list(range(size))
        return sent[0]

    written = {}
    monkeypatch.setattr(scaling, "in_a_process", in_this_process)
    monkeypatch.setattr(scaling, "NUM_CLASSES", 50)
    monkeypatch.setattr(scaling, "IMAGES_OF_A_CLASS", 50)
    options = ["--images", "2000", "4000", "--files", "100", "--rounds", "1", "--out", str(tmp_path / "table.md")]
    monkeypatch.setattr(sys, "argv", ["image_count_scaling", *options])
    scaling.main()
    assert capsys.readouterr().out == (tmp_path / "table.md").read_text()
    lines = (tmp_path / "table.md").read_text().split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {(part, size): cells for part, size, *cells in rows}
    assert set(found) == {
        (part, size)
        for part, (_, of_files) in scaling.PARTS.items()
        for size in (["100"] if of_files else ["2,000", "4,000"])
    }
    manifests = [float(found["writing its manifest", size][1]) for size in ("2,000", "4,000")]
    assert manifests == pytest.approx([written[2000] / 1e6, written[4000] / 1e6], rel=0.01)
    seconds = [float(found["writing its manifest", size][0]) for size in ("2,000", "4,000")]
    power = float(found["writing its manifest", "4,000"][3])
    assert power == pytest.approx(math.log2(seconds[1] / seconds[0]), abs=0.03)


def test_a_size_that_the_classes_cannot_share_is_refused(scaling, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["image_count_scaling", "--images", "2500"])
    with pytest.raises(SystemExit):
        scaling.main()
    assert "2500 images cannot be shared by classes; use a multiple of 1000" in capsys.readouterr().err
