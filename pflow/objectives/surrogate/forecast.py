r"""What an error of the model of F does to its posterior.

An error e of the predicted data, with a mean square of e^2 noise variances a datum and no preferred
direction, moves the mode by (I + J^T J)^{-1} J^T e. With P = (I + J^T J)^{-1} the posterior
covariance in prior standard deviations, the mean square of this shift, in posterior variances and
for each of the D parameters, is

    shift^2 = e^2 trace(J P J^T) / D = e^2 (1 - trace(P) / D)

More evaluations, however many, change the posterior by about as much, and not more: the shift
bounds what is left to gain. What the next k of them change follows from its course, a power of the
number n of evaluations,

    shift(n) - shift(n + k),      shift(n) ~ n^{-p},

with p fitted to the second half of the run and taken to be 1/2 at least, because an error that
seems to stand still may not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression

import torch

from pflow.objectives.surrogate.gaussian import PosteriorGaussian

__all__ = ["FURTHER", "expected_shift", "in_words", "next_shift"]

FURTHER = 100  # evaluations that the forecast in words is about
SLOWEST, USUAL = 0.5, 1.0  # p at least, and where there are too few rounds to fit it
FEWEST = 3  # rounds


def expected_shift(frame: PosteriorGaussian, error: float) -> float:
    """Root mean square over parameters of the shift, in posterior standard deviations.

    Arguments:
        frame: Gaussian of the model's posterior, in prior standard deviations.
        error: mean square of the model's error at new points, in noise variances.
    """
    size = len(frame.mean)
    identity = torch.eye(size, dtype=frame.factor.dtype)
    root = torch.linalg.solve_triangular(frame.factor, identity, upper=False)
    informed = 1 - float(root.square().sum()) / size
    return math.sqrt(error * max(0.0, informed))


def next_shift(course: Sequence[tuple[int, float]], further: int = FURTHER) -> float:
    """What the next evaluations are predicted to move the posterior mean by.

    >>> round(next_shift([(20, 0.2), (40, 0.1), (50, 0.08), (100, 0.04)]), 3)  # 4 / n
    0.02

    Arguments:
        course: evaluations and expected shift, of each round until now.
        further: evaluations.
    """
    now, shift = course[-1]
    recent = [(math.log(n), math.log(max(s, 1e-12))) for n, s in course if 2 * n >= now]
    power = USUAL
    if len(recent) >= FEWEST:
        power = -linear_regression(*zip(*recent, strict=True)).slope
    return shift * (1 - (1 + further / now) ** -max(SLOWEST, power))


def in_words(shift: float) -> str:
    """The forecast as a sentence: "Another 100 evaluations are predicted to move the posterior mean
    by 0.031 posterior standard deviations".
    """
    return (
        f"Another {FURTHER} evaluations are predicted to move the posterior mean by {shift:.2g}"
        " posterior standard deviations"
    )
