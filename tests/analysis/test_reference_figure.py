from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitlab.analysis.reference_curves import reference_tables
from vitlab.analysis.reference_figure import draw_reference


def test_a_table_has_a_panel_with_all_its_curves_dashed_and_its_source():
    (table,) = reference_tables()
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_reference(axes, table)
    lines = {tuple(line.get_xdata()): line for line in axes.get_lines()}
    assert len(axes.get_lines()) == len(table)
    assert all(line.is_dashed() for line in lines.values())
    assert axes.get_xlabel() == "images of pre-training"
    words = " ".join(text.get_text().replace("\n", " ") for text in axes.texts)
    assert table[0].source in words
    assert table[0].caveat in words
    assert all(curve.model in words for curve in table)
