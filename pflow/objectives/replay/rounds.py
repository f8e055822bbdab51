"""How many points a round of score replay evaluates: few while little is known, because they move
the flow before much is spent.
"""

from __future__ import annotations

__all__ = ["SMALLEST_DRAW", "points_in_a_round", "rounds_of"]

SMALLEST_DRAW = 16


def points_in_a_round(known: int, left: int) -> int:
    """M: a quarter of the points that are known, at least 16; all that is left of the budget where
    the next round would be small.
    """
    draw = max(SMALLEST_DRAW, known // 4)
    return left if left < 1.5 * draw else draw


def rounds_of(evaluations: int) -> int:
    """How many rounds a budget has."""
    known = rounds = 0
    while known < evaluations:
        known, rounds = known + points_in_a_round(known, evaluations - known), rounds + 1
    return rounds
