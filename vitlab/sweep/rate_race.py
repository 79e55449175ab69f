"""Learning rates that race each other over the seeds: `race: true` beside a list of them.

All rates of the list have a trial at the first seed, the better half of them one at the second, the better half of
those at the third, and so on to one rate, which gets all other seeds: successive halving (Jamieson and Talwalkar, arXiv
1502.07943, section 3) with seeds as the resource. Three rates and three seeds are six trials where a grid has nine.

What counts is the mean validation accuracy over the seeds so far; a rate that failed has the worst. How many rates go
on depends on the length of the list alone, so every arm has as many trials as any other. Only where folders were merged
whose races had seeds of their own may no rate have them all; the best of those with the most then gets the others.
"""

from collections.abc import Mapping, Sequence

Scores = Mapping[float, Mapping[int, float]]  # validation accuracy by rate and seed; -1 where the trial failed


def num_rates(num_listed: int, num_seeds: int) -> list[int]:
    """Return how many rates run at the first seed, at the second and so on.

    Args:
        num_listed: rates of the list, 1 or more.
        num_seeds: 1 or more.
    """
    numbers = [num_listed]
    while len(numbers) < num_seeds:
        numbers.append((numbers[-1] + 1) // 2)
    return numbers


def next_in_race(scores: Scores, seeds: Sequence[int], rates: Sequence[float]) -> tuple[list[float], list[int]] | None:
    """Return the rates and seeds that come next for an arm whose trials have all ended; None at the end of the race.

    Args:
        scores: of the trials so far.
        seeds: of the arm, in the order in which the race comes to them.
        rates: of the list.
    """
    numbers = num_rates(len(rates), len(seeds))
    for index, number in enumerate(numbers):
        there = [rate for rate in rates if seeds[index] in scores.get(rate, {})]
        before = seeds[:index]
        alive = [rate for rate in rates if all(seed in scores.get(rate, {}) for seed in before)]
        ranked = sorted(alive, key=lambda rate: (-sum(scores[rate][seed] for seed in before) if before else 0.0, rate))
        wanted = sorted(ranked, key=lambda rate: rate not in there)[:number]  # whoever has started stays
        absent = [rate for rate in wanted if rate not in there]
        if len(there) < number and absent:
            more = [seed for seed, other in zip(seeds[index:], numbers[index:], strict=True) if other == number == 1]
            return absent, more or [seeds[index]]
    return _rest_of_the_leader(scores, seeds, rates)


def _rest_of_the_leader(
    scores: Scores, seeds: Sequence[int], rates: Sequence[float]
) -> tuple[list[float], list[int]] | None:
    def standing(rate: float) -> tuple[int, float, float]:
        own = [scores[rate][seed] for seed in seeds if seed in scores.get(rate, {})]
        return len(own), sum(own) / len(own) if own else 0.0, -rate

    leader = max(rates, key=standing)
    absent = [seed for seed in seeds if seed not in scores.get(leader, {})]
    return ([leader], absent) if absent else None
