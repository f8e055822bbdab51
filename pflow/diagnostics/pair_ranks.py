"""Ranks of the truths of many pairs among draws for each: in every parameter, in log q, and in the
distance of TARP.
"""

from __future__ import annotations

import numpy as np

from pflow.diagnostics.calibration import coverage_of_ranks, ranks, tarp_distances, uniformity
from pflow.diagnostics.coverage import COVERAGES

__all__ = ["JOINT", "calibration_numbers", "evenly_spread", "other_truths", "rank_columns"]

JOINT = ("log_q", "tarp")


def evenly_spread(size: int, most: int) -> np.ndarray:
    """At most `most` of `size` parameters."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))


def other_truths(truths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each pair the truth of another pair, as the reference point of TARP, (pairs, size)."""
    order = random.permutation(len(truths))
    other = np.empty_like(order)
    other[order] = np.roll(order, -1)
    return truths[other]


def rank_columns(
    draws: np.ndarray,
    truth: np.ndarray,
    log_q: np.ndarray,
    log_q_of_truth: np.ndarray,
    references: np.ndarray,
    chosen: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Ranks of the truths, (pairs, chosen + 2): of the chosen parameters, of log q, of the distance
    to the reference point.

    Arguments:
        draws: (pairs, draws, size), in units in which a distance makes sense.
        truth: (pairs, size).
        log_q: log q at the draws, (pairs, draws).
        log_q_of_truth: (pairs,).
        references: one point a pair, (pairs, size).
        chosen: indices of the parameters that are ranked one by one.
        random: breaks ties.
    """
    distances = tarp_distances(draws, truth, references)
    columns = [ranks(draws[:, :, chosen], truth[:, chosen], random)]
    columns += [
        ranks(of_draws, of_truth, random)[:, None]
        for of_draws, of_truth in ((log_q, log_q_of_truth), distances)
    ]
    return np.concatenate(columns, 1)


def calibration_numbers(
    rank: np.ndarray, draws: int, random: np.random.Generator
) -> dict[str, float]:
    """p-values (ranks of parameters and log q together; TARP) and coverages of what `rank_columns`
    gives.
    """
    tests = [uniformity(column, draws).p_value for column in rank.T]
    return {
        "sbc_p_value": min(1.0, (len(tests) - 1) * min(tests[:-1])),
        "tarp_p_value": tests[-1],
        **{
            f"coverage_{c}": coverage_of_ranks(rank[:, : -len(JOINT)], draws, c, random)
            for c in COVERAGES
        },
    }
