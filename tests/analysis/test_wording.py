import pytest

from vitlab.analysis import wording


@pytest.mark.parametrize(
    ("number", "words"), [(1913, "1,900"), (94.6, "95"), (8000, "8,000"), (4.2e8, "420,000,000"), (7.04, "7")]
)
def test_a_crossover_is_said_at_two_significant_digits(number, words):
    assert wording.about(number) == words


def test_a_family_has_an_article_and_another_name_has_none():
    assert wording.the("vit") == "the ViT"
    assert wording.the("resnet18_gn") == "resnet18_gn"


def test_open_ends_are_named_after_the_measured_range():
    assert wording.interval_of_sizes((None, 2613), 100, 8000) == "below 100 to 2,600"
    assert wording.interval_of_sizes((1480, None), 100, 8000) == "1,500 to above 8,000"


def test_lists_and_plurals_read_as_english():
    assert wording.listing(["a", "b", "c"]) == "a, b and c"
    assert wording.listing([]) == "none"
    assert (wording.plural(1, "seed"), wording.plural(1200, "seed")) == ("1 seed", "1,200 seeds")


def test_a_sentence_gets_one_capital_and_one_full_stop():
    assert wording.sentence("the ViT leads") == "The ViT leads."
    assert wording.sentence("Done.") == "Done."


def test_names_of_arms_in_sweeps_are_cut_in_the_sweeps_middle():
    cut = [wording.short(f"ViT @ glyphs_both_{end}", 13) for end in ("a", "b")]
    assert all(len(name) == 13 for name in cut)
    assert cut[0] != cut[1]
    assert wording.short("ViT @ old", 13) == "ViT @ old"
    cut = [wording.short(f"EfficientNet @ sweep_{end}", 13) for end in ("a", "b")]
    assert [len(name) for name in cut] == [13, 13]
    assert cut[0] != cut[1]
    assert wording.short("a_very_long_model_at_sweep", 13) == "a_very_long_…"
