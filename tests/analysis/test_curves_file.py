import argparse
import csv

import numpy as np
import pytest

from vitlab.analysis.curves_file import write_curves
from vitlab.analysis.measured_curves import cross_all, fit_curves, read_measurements
from vitlab.commands.reports import add_curves

SIZES = [100, 200, 400, 800, 1600, 3200]


def _write(path, rows, header="model,size,error"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _two_models(path):
    rows = [f"vit,{size},{min(1, 4 * size**-0.45):.4f}" for size in SIZES]
    return _write(path, rows + [f"cnn,{size},{0.8 * size**-0.18:.4f}" for size in SIZES])


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_becomes_predictions_crossings_and_a_figure(tmp_path):
    write_curves(_two_models(tmp_path / "a.csv"), tmp_path / "out", [6400, 12800])
    told = _table(tmp_path / "out" / "predictions.csv")
    assert [(row["model"], row["size"]) for row in told] == [(m, s) for m in ("vit", "cnn") for s in ("6400", "12800")]
    for row in told:
        assert 0 < float(row["low"]) < float(row["predicted"]) < float(row["high"]) <= 1
        assert (row["extrapolated"], row["measured"]) == ("1", "")
    (crossing,) = _table(tmp_path / "out" / "crossovers.csv")
    assert crossing["verdict"] == "crosses"
    assert float(crossing["low"]) < (4 / 0.8) ** (1 / 0.27) < float(crossing["high"])
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "out" / "curves.svg").read_bytes()


def test_rows_that_are_not_fitted_are_foretold(tmp_path):
    rows = [f"t,vit,{size},{4 * size**-0.45:.4f},{int(size < 1600)}" for size in [50, *SIZES]]
    curves, _ = write_curves(_write(tmp_path / "a.csv", rows, "task,model,seen_examples,error,fit"), tmp_path / "out")
    told = _table(tmp_path / "out" / "predictions.csv")
    assert [row["size"] for row in told] == ["1600", "3200"]
    assert [float(row["measured"]) for row in told] == pytest.approx([0.1446, 0.1058], abs=1e-3)
    assert curves[0].estimate.sizes.max() == 800


def test_equal_files_give_equal_bytes(tmp_path):
    file = _two_models(tmp_path / "a.csv")
    for folder in ("one", "two"):
        write_curves(file, tmp_path / folder, [6400])
    for name in ("predictions.csv", "crossovers.csv", "curves.png", "curves.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_seeds_are_one_curve_and_other_tasks_are_not_compared(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{t},{m},{s},{s**-0.3 * np.exp(0.02 * rng.standard_normal()):.4f},{seed}"
            for t, m in (("x", "vit"), ("y", "cnn")) for s in SIZES for seed in range(3)]  # fmt: skip
    curves = fit_curves(read_measurements(_write(tmp_path / "a.csv", rows, "task,model,size,error,seed")))
    assert [len(curve.estimate.sizes) for curve in curves] == [6, 6]
    assert cross_all(curves) == []
    assert curves[0].estimate.noise == pytest.approx(0.02, rel=0.5)


def test_a_likelihood_may_exceed_one(tmp_path):
    rows = [f"vit,{size},{6 * size**-0.2 + 0.5:.4f}" for size in SIZES]
    file = _write(tmp_path / "a.csv", rows, "model,size,nll")
    (curve,) = fit_curves(read_measurements(file, "nll"), "nll")
    told = curve.estimate.predict([1, 6400]).errors
    assert told[0] > 3
    assert told[1] == pytest.approx(6 * 6400**-0.2 + 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("model,error", ["vit,0.1"], "lacks the column size or seen_examples; it has: model, error"),
        ("size,loss", ["1,0.1"], "lacks the column model and error; it has: size, loss"),
        ("model,size,error", [], "has no rows"),
        ("model,size,error", ["vit,100,25"], "line 2: error 25 is outside 0 to 1; write a share, 0.25 for 25 %"),
        ("model,size,error", ["vit,100,0.2", "vit,many,0.1"], "line 3: size 'many' is not a number"),
        ("model,size,error", ["vit,100,nan"], "line 2: error 'nan' is not a finite number"),
        ("model,size,error", ["vit,0,0.2"], "line 2: size 0 is not above 0"),
        ("model,size,error", ["vit,100"], "line 2: it has more or fewer cells"),
        ("model,size,error", [",100,0.2"], "line 2: model is empty"),
        ("model,size,error,fit", ["vit,100,0.2,yes"], "line 2: fit is 'yes'; write 1"),
        ("model,size,error,seed", ["vit,100,0.2,0", "vit,100,0.3,0"], "line 3: the same task, model, size and seed as"),
        ("model,size,error", ["vit,100,0.2", "vit,200,0.1"], "vit has 2 sizes with error above 0"),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path, header, rows, words):
    with pytest.raises(ValueError, match=words):
        write_curves(_write(tmp_path / "a.csv", rows, header), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_many_bad_rows_are_counted_and_a_few_named(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: .*\n.*line 3: .*(\n.*)+and 3 more") as caught:
        read_measurements(_write(tmp_path / "a.csv", ["vit,100,7"] * 8))
    assert str(caught.value).count("line") == 5


def test_sizes_to_predict_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="numbers above 0; got -5"):
        write_curves(_two_models(tmp_path / "a.csv"), tmp_path / "out", [-5])


def test_the_command_says_who_leads(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_curves(parser.add_subparsers())
    file = _two_models(tmp_path / "a.csv")
    options = parser.parse_args(["curves", str(file), "--out", str(tmp_path / "out"), "--predict", "6400"])
    assert options.function(options) == 0
    assert "vit and cnn: cnn leads at first and vit from about" in capsys.readouterr().out
