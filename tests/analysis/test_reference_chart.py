import re
from xml.etree import ElementTree

from vitlab.analysis.reference_chart import reference_section
from vitlab.analysis.reference_curves import reference_curves


def test_every_published_curve_is_drawn_dashed_with_its_source_and_caveat():
    section = reference_section()
    chart = ElementTree.fromstring(re.search(r"<svg.*?</svg>", section, re.DOTALL).group())
    assert len([path for path in chart.iter("path") if path.get("class") == "beyond"]) == len(reference_curves())
    assert {name.text for name in chart.iter("text") if name.get("class") == "name"} == {
        curve.model for curve in reference_curves()
    }
    assert "2010.11929" in section
    assert "for reference, not for comparison" in section
    assert "differ in more than their size" in section
