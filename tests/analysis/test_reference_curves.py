import pytest

from vitlab.analysis.reference_curves import reference_curves


def test_the_vit_papers_table_is_there_as_errors():
    curves = {curve.model: curve for curve in reference_curves()}
    assert set(curves) == {"ViT-B/16", "ViT-B/32", "ViT-L/16", "ViT-L/32", "ViT-H/14"}
    assert curves["ViT-B/16"].errors == pytest.approx((0.2209, 0.1603, 0.1585))
    assert curves["ViT-H/14"].train_sizes == (14_000_000, 303_000_000)
    assert all("2010.11929" in curve.source and curve.caveat for curve in curves.values())


def test_reference_curves_can_be_drawn():
    for curve in reference_curves():
        assert len(curve.train_sizes) == len(curve.errors) >= 2
        assert list(curve.train_sizes) == sorted(curve.train_sizes)
        assert all(0 < error < 1 for error in curve.errors)
