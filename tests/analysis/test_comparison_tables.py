import made_up_sweeps as sweeps

from vitlab.analysis.comparison_tables import comparison_section
from vitlab.analysis.page import charted, write_page
from vitlab.analysis.sweep_comparison import compare_sweeps

PLAN = sweeps.make_plan()
HOSTILE = "<script>alert(1)</script>"


def _section(first=None, second=None, plan=PLAN, names=("old", "new")):
    made = sweeps.made_up(names[0], first), sweeps.made_up(names[1], second, seed=1, plan=plan)
    return comparison_section(compare_sweeps(*made))


def test_crossovers_gaps_arms_and_settings_stand_side_by_side():
    section = _section(plan=sweeps.with_settings(PLAN, "vit", model={"label_smoothing": 0.1}))
    for words in (
        "Crossovers side by side",
        "The gap: ViT error minus CNN error, on the same images",
        "label_smoothing",
    ):
        assert words in section
    assert "ViT @ old and ViT @ new at each size" in section
    assert "CNN @ old and CNN @ new" not in section  # the same settings: no question
    assert section.count("<table>") == section.count("<caption>") == 4


def test_equal_settings_are_said_in_words():
    assert "The sweeps have the same settings" in _section()


def test_names_of_folders_and_settings_cannot_become_markup():
    plan = sweeps.with_settings(PLAN, "vit", model={"note": HOSTILE})
    assert HOSTILE not in _section(plan=plan, names=("old", HOSTILE))


def test_a_comparison_has_one_chart_and_dials_keep_theirs():
    first, second = sweeps.made_up("old"), sweeps.made_up("new", seed=1)
    comparison = compare_sweeps(first, second)
    results = [first.result, second.result]
    assert charted(results, [comparison]) == [comparison.together]
    assert charted(results, []) == results
    page = write_page(results, [comparison])
    assert page.count("<svg") == 1
    assert page.index("The answer stays") < page.index("<svg") < page.index("new against old</h2>")


def test_arms_keep_the_colors_of_the_chart_in_the_tables_of_each_sweep():
    first, second = sweeps.made_up("old"), sweeps.made_up("new", seed=1)
    page = write_page([first.result, second.result], [compare_sweeps(first, second)])
    old, new = page.split("<h2>glyphs-both</h2>")[1:]
    assert 'class="model m0">ViT' in old
    assert 'class="model m1">CNN' in old
    assert 'class="model m2">ViT' in new
    assert 'class="model m3">CNN' in new


def test_dials_are_compared_in_words_and_tables_and_keep_a_chart_each():
    arms = {"window3": [None, 3], "window7": [None, 7], "all": [None, 15]}
    plan = sweeps.make_plan(list(arms), dial={"label": "window (tokens)", "arms": arms})
    curves = {model: sweeps.CURVES["vit" if model == "all" else "cnn"] for model in arms}
    made = [sweeps.made_up(name, curves, seed=seed, plan=plan) for name, seed in (("old", 0), ("new", 1))]
    page = write_page([sweep.result for sweep in made], [compare_sweeps(*made)])
    assert page.count("<svg") == 2 * 2  # the dial, and its learning curves
    assert page.index("pairs of arms, the answer") < page.index("<svg")
    assert "new against old</h2>" in page
