"""How many points a round of score replay evaluates: few at first, because they move the flow
before much is spent.
"""

from __future__ import annotations

__all__ = ["SMALLEST_DRAW", "points_in_a_round", "rounds_of"]

SMALLEST_DRAW = 16


def points_in_a_round(evaluated: int, left: int) -> int:
    """M: a quarter of the points evaluated so far, at least 16; all that is left of the budget
    where the next round would be small.
    """
    draw = max(SMALLEST_DRAW, evaluated // 4)
    return left if left < 1.5 * draw else draw


def rounds_of(evaluations: int) -> int:
    """How many rounds a budget has."""
    evaluated = rounds = 0
    while evaluated < evaluations:
        evaluated += points_in_a_round(evaluated, evaluations - evaluated)
        rounds += 1
    return rounds
