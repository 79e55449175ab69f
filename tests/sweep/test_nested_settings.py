"""Settings are laid over one another deeply."""

from hypothesis import given
from hypothesis import strategies as st

from vitlab.sweep.nested_settings import expand, merge

leaves = st.one_of(st.integers(), st.text(max_size=3), st.none())
settings = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), leaves, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.one_of(leaves, inner), max_size=3),
    max_leaves=8,
)


@given(settings, settings)
def test_merging_lets_the_second_win_and_is_idempotent(below, above):
    merged = merge(below, above)
    assert merge(merged, above) == merged
    assert set(merged) == set(below) | set(above)
    assert all(merged[key] == value for key, value in above.items() if not isinstance(value, dict))


def test_another_class_starts_with_fresh_arguments():
    below = {"backbone": {"class_path": "A", "init_args": {"x": 1}}}
    same = merge(below, {"backbone": {"class_path": "A", "init_args": {"y": 2}}})
    other = merge(below, {"backbone": {"class_path": "B", "init_args": {"y": 2}}})
    assert same["backbone"]["init_args"] == {"x": 1, "y": 2}
    assert other["backbone"]["init_args"] == {"y": 2}


@given(settings)
def test_settings_without_dots_stay_as_they_are(nested):
    assert expand(nested) == nested


def test_dotted_names_are_nested_and_other_dots_stay():
    dotted = {
        "data.dataset.init_args.root": "x",
        "data.dataset": {"class_path": "Folder", "init_args.image_size": 7},
        "data.batch_size": 3,
        "data": {"batch_size": 5},
        "mean.of.1.5": 2,
    }
    assert expand(dotted) == {
        "data": {"dataset": {"init_args": {"root": "x", "image_size": 7}, "class_path": "Folder"}, "batch_size": 5},
        "mean.of.1.5": 2,
    }
