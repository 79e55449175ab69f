import made_up_sweeps as sweeps
import numpy as np
import pytest

from vitlab.analysis.outlook import look
from vitlab.analysis.refinement_wording import gain_words, in_minutes, settled_words, what_is_added


def _outlook(noise, num_seeds=3):
    curves = np.array([sweeps.CURVES["vit"], sweeps.CURVES["cnn"]])[:, :, None]
    z = np.random.default_rng(2).standard_normal((2, len(sweeps.SIZES), num_seeds))
    return look(("vit", "cnn"), sweeps.SIZES, np.clip(curves + noise * z, 0, 1))


@pytest.mark.parametrize(
    ("additions", "words"),
    [
        ({2000: 3}, "3 more seeds at 2,000 images"),
        ({600: 1, 2000: 2}, "1 more seed at 600 images and 2 more seeds at 2,000 images"),
        ({1100: 3}, "a new size, 1,100 images, with 3 seeds"),
        (dict.fromkeys(sweeps.SIZES, 1), "1 more seed at every size"),
    ],
)
def test_additions_in_words(additions, words):
    assert what_is_added(sweeps.make_plan(), additions) == words


def test_the_interval_that_should_come_lies_within_the_one_that_is():
    outlook = _outlook(0.01)
    words = gain_words(outlook, 0.5)
    assert words.startswith("on validation data, the interval of the crossover of ViT and CNN, ")
    now, then = ([int(n.replace(",", "")) for n in part.split(" to ")] for part in _intervals(words))
    assert now[0] < then[0] < then[1] < now[1]


def _intervals(words):
    before, after = words.split(", should shrink to about ")
    return before.rpartition("CNN, ")[2], after


def test_where_nothing_is_decided_the_range_in_doubt_shrinks():
    assert gain_words(_outlook(0.08, 2), np.log(2)).endswith("the range of sizes in doubt should shrink by 50 %")


def test_what_is_settled_says_why():
    assert "is narrow enough" in settled_words([_outlook(0.001, 8)])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 second"), (40, "40 seconds"), (240, "4 minutes"), (5000, "83 minutes")]
)
def test_times_in_words(seconds, words):
    assert in_minutes(seconds) == words
