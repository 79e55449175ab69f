"""Decoding and edit distance, against definitions written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitlab.training.transcription import edit_distance, fewest_steps, greedy_decode, sequence_lengths

BLANK = 3
words = st.lists(st.integers(0, 2), max_size=7)


def padded(sequences, longest=None):
    longest = max([longest or 0, *map(len, sequences)])
    return torch.tensor([[*sequence, *[-1] * (longest - len(sequence))] for sequence in sequences], dtype=torch.int64)


def logits_of(steps):
    """Logits whose best class at each step is the one given."""
    return torch.nn.functional.one_hot(torch.tensor(steps), BLANK + 1).float()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([0, 0, 1, 2], [0, 1, 2]),
        ([0, BLANK, 0, 0, 1], [0, 0, 1]),
        ([BLANK, BLANK, BLANK], []),
        ([BLANK, 2, BLANK, BLANK, 2], [2, 2]),
        ([1, 0, 1, 0], [1, 0, 1, 0]),
    ],
)
def test_runs_count_once_and_blanks_vanish(steps, said):
    decoded = greedy_decode(logits_of([steps]))
    assert decoded.shape == (1, len(steps))
    assert torch.equal(decoded, padded([said], len(steps)))


@given(st.lists(st.lists(st.integers(0, BLANK), min_size=5, max_size=5), min_size=1, max_size=7))
def test_decoding_a_batch_is_decoding_each(batch):
    expected = []
    for steps in batch:
        runs = [step for index, step in enumerate(steps) if index == 0 or step != steps[index - 1]]
        expected.append([step for step in runs if step != BLANK])
    assert torch.equal(greedy_decode(logits_of(batch)), padded(expected, 5))


def by_recursion(first, second):
    if not first or not second:
        return len(first) + len(second)
    replaced = by_recursion(first[1:], second[1:]) + (first[0] != second[0])
    return min(replaced, 1 + by_recursion(first[1:], second), 1 + by_recursion(first, second[1:]))


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_edit_distance_is_the_one_of_its_definition(pairs):
    first, second = padded([pair[0] for pair in pairs]), padded([pair[1] for pair in pairs])
    assert edit_distance(first, second).tolist() == [by_recursion(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ([], [], 0),
        ([1, 2, 3], [], 3),
        ([], [4, 5], 2),
        ([10, 8, 19, 19, 4, 13], [18, 8, 19, 19, 8, 13, 6], 3),  # kitten, sitting
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 1], 2),
        ([7] * 11, [9] * 5, 11),
    ],
)
def test_edit_distance_of_known_pairs(first, second, distance):
    assert edit_distance(padded([first], 13), padded([second], 17)).tolist() == [distance]


@given(words, words, st.integers(0, 3))
def test_filling_up_changes_no_distance(first, second, more):
    plain = edit_distance(padded([first]), padded([second]))
    assert torch.equal(edit_distance(padded([first], len(first) + more), padded([second], 11)), plain)


@pytest.mark.parametrize(("sequence", "steps"), [([], 0), ([1, 2], 2), ([1, 1], 3), ([2, 2, 2, 1], 6), ([0] * 5, 9)])
def test_equal_neighbors_take_a_step_between_them(sequence, steps):
    assert fewest_steps(padded([sequence], 7)).tolist() == [steps]
    assert sequence_lengths(padded([sequence], 7)).tolist() == [len(sequence)]
