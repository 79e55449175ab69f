import dataclasses

import made_up_sweeps as sweeps

from vitlab.analysis.efficiency_table import levels_table

LOCAL = {"cnn": [0.24, 0.10, 0.03, 0.012, 0.004], "vit": [0.33, 0.26, 0.19, 0.06, 0.02]}


def _pair(curves=LOCAL, **settings):
    return sweeps.made_up("a", curves, noise=0.003, **settings).result.pairs[0]


def test_each_level_has_a_row_with_images_ratio_and_interval():
    page = levels_table(_pair())
    assert page.count("<tr>") == 1 + 5
    assert "Images for ViT" in page
    assert "Images that ViT and CNN need for the same error" in page
    assert page.count(" to ") >= 4


def test_open_ends_are_said_in_words():
    pair = _pair()
    levels = [
        {**level, "interval": interval}
        for level, interval in zip(
            pair.data_efficiency.at_levels, [(None, 3.0), (2.0, None), (None, None), None, (1.5, 2.5)], strict=True
        )
    ]
    pair = dataclasses.replace(pair, data_efficiency=dataclasses.replace(pair.data_efficiency, at_levels=levels))
    page = levels_table(pair)
    for words in (">up to 3.0<", ">2.0 or more<", ">open<", ">\u2013<", ">1.5 to 2.5<"):
        assert words in page


def test_curves_without_a_shared_level_have_no_table():
    apart = {"vit": [0.9, 0.88, 0.86, 0.84, 0.82], "cnn": [0.3, 0.2, 0.1, 0.05, 0.02]}
    assert levels_table(_pair(apart)) == ""
