r"""The reliability of importance weights: the shape k of the generalised Pareto distribution of
their largest values.

With k < 0.7 importance-weighted means converge fast enough to be used; with k > 1 the weights have
no mean at all. The fit is that of ArviZ (Vehtari, Simpson, Gelman, Yao, Gabry 2024, "Pareto
smoothed importance sampling", https://arxiv.org/abs/1507.02646), whose function takes log
*likelihoods*, so that weights enter with a minus sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.arrays import log_densities

__all__ = ["pareto_k"]

SMALLEST = 25  # gives a tail of five draws, the smallest that can be fitted


def pareto_k(log_weight: ArrayLike) -> float | None:
    """k-hat of log weights; None where it cannot be fitted: fewer than 25 weights above zero, or
    all of them equal.

    Raises:
        ValueError: for NaN or +inf.
    """
    from arviz_stats.base import array_stats  # half a second of imports

    values = log_densities("log_weight", log_weight, allow_zero=True)
    values = values[np.isfinite(values)]
    if len(values) < SMALLEST or np.ptp(values) < 1e-9:
        return None
    with np.errstate(
        all="ignore"
    ):  # nearly equal weights divide by zero on the way to NaN, which is caught below
        shape = float(array_stats.psislw(-values)[1])
    return shape if np.isfinite(shape) else None
