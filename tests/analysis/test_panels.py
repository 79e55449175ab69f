import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitlab.analysis.panels import name_ticks


@pytest.mark.parametrize(
    ("low", "high"), [(44_000, 60_000), (8.3, 21.7), (1.3e10, 7.9e11), (97, 103), (1, 1e12), (250, 250.0)]
)
def test_a_log_axis_of_any_range_has_a_few_named_ticks_inside_it(low, high):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(low / 1.12, high * 1.12)
    name_ticks(axes, [low, high])
    ticks = list(axes.get_xticks())
    first, last = axes.get_xlim()
    assert 1 <= len(ticks) <= 6
    assert high < 1.05 * low or len(ticks) >= 2
    assert all(first <= tick <= last for tick in ticks)
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(names)) == len(names)
