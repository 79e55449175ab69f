import pytest

from vitlab.attention import All, Grid, Pattern


def test_all_hides_nothing():
    assert All().mask(Grid(3, 5)) is None


def test_a_pattern_must_say_who_may_look():
    with pytest.raises(TypeError, match="abstract"):
        Pattern()
