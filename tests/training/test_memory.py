import torch

from vitlab.training.memory import peak_bytes


def test_the_peak_is_the_most_that_was_held_at_once():
    held = []

    def step():
        first, second = torch.empty(1009), torch.empty(503)
        del first
        third = torch.empty(101)
        held.append(third)  # what stays counts from when it comes, not from the end
        del second

    assert peak_bytes(step) == 4 * (1009 + 503)


def test_what_was_there_before_does_not_count():
    there = torch.ones(997)
    assert peak_bytes(lambda: there.neg_()) == 0
    assert peak_bytes(lambda: there.neg()) == 4 * 997
