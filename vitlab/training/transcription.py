"""From a model's steps to what they say, and how far that is from the truth: greedy decoding and edit distance.

Decoding: Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2, "best path". Edit distance:
Levenshtein, Soviet Physics Doklady 10(8), 1966; one row of its table at a time (Wagner and Fischer, JACM 21(1), 1974).
"""

import torch
from torch import Tensor

PADDING = -1  # fills a sequence up to the longest of its batch


def greedy_decode(logits: Tensor) -> Tensor:
    """Take each step's best class, count a run of equal ones once, and drop the blanks.

    Args:
        logits: Scores of all classes and, last, the blank.

    Shape: (batch, steps, classes + 1) to int64 (batch, steps), each sequence filled up with -1.
    """
    best = logits.argmax(dim=-1)  # (batch, steps)
    previous = torch.cat([torch.full_like(best[:, :1], PADDING), best[:, :-1]], dim=1)
    is_said = (best != previous) & (best != logits.shape[-1] - 1)
    to_the_front = (~is_said).long().argsort(dim=1, stable=True)
    return torch.where(is_said, best, PADDING).gather(1, to_the_front)


def edit_distance(first: Tensor, second: Tensor) -> Tensor:
    """Count the insertions, deletions and replacements that make one sequence the other, at least so many.

    Args:
        first: Integers of 0 or more, filled up with -1.
        second: The same.

    Shape: (batch, longest) and (batch, longest of the other) to int64 (batch,).
    """
    columns = torch.arange(second.shape[1] + 1, device=second.device)
    first_lengths, second_lengths = sequence_lengths(first), sequence_lengths(second)
    row = columns.expand(len(second), -1)  # from nothing to the first j of second: j insertions
    result = row
    for index in range(first.shape[1]):
        replaced = row[:, :-1] + (second != first[:, index, None])
        start = torch.full_like(row[:, :1], index + 1)
        row = torch.cat([start, torch.minimum(row[:, 1:] + 1, replaced)], dim=1)
        # Insertions: the best of all cells to the left, one more for each cell between.
        row = (row - columns).cummin(dim=1).values + columns
        result = torch.where((first_lengths == index + 1)[:, None], row, result)
    return result.gather(1, second_lengths[:, None])[:, 0]


def sequence_lengths(sequences: Tensor) -> Tensor:
    """Return how long each sequence is without its filling: (batch, longest) to (batch,)."""
    return (sequences != PADDING).sum(dim=1)


def fewest_steps(sequences: Tensor) -> Tensor:
    """Return the steps that each sequence takes at least: one an entry, and a blank between equal neighbors.

    Shape: (batch, longest) to int64 (batch,).
    """
    repeats = (sequences[:, 1:] == sequences[:, :-1]) & (sequences[:, 1:] != PADDING)
    return sequence_lengths(sequences) + repeats.sum(dim=1)
