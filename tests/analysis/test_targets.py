from vitlab.analysis.targets import BESIDE_ERROR, CALIBRATION, ERROR, NLL, TARGETS
from vitlab.sweep.record import _SHARES


def test_shares_end_at_one_and_the_likelihood_has_no_end():
    assert {target.name for target in TARGETS.values() if target.largest == 1.0} == {"error", "calibration_error"}
    assert "calibration_error" in _SHARES
    assert NLL.largest is None


def test_values_are_told_in_their_unit():
    assert ERROR.tell(0.1234) == "12.3 %"
    assert NLL.tell(0.1234) == "0.123"
    assert CALIBRATION.tell(0.01) == "1.0 %"
    assert ERROR not in BESIDE_ERROR
