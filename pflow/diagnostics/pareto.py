r"""The reliability of importance weights: the shape k of the generalised Pareto distribution of
their largest values.

With k < 0.7 importance-weighted means converge fast enough to be used; with k > 1 the weights have
no mean at all. The fit is that of ArviZ (Vehtari, Simpson, Gelman, Yao, Gabry 2024, "Pareto
smoothed importance sampling", https://arxiv.org/abs/1507.02646), whose function takes log
*likelihoods*, so that weights enter with a minus sign.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.arrays import log_densities
from pflow.diagnostics.importance import effective_sample_size_fraction

__all__ = ["WeightSupport", "pareto_k", "weight_support"]

SMALLEST = 25  # a tail of five draws is the least that can be fitted
LARGEST_K = 0.7  # the defaults of `evaluate.verdict.pareto_k` and `.ess_high`
HIGH_FRACTION = 0.9
# A mean of so many effective draws errs by a tenth of a posterior standard deviation
LEAST_EFFECTIVE = 100


class WeightSupport(NamedTuple):
    """Whether importance-weighted means are better than means of the draws as they are.

    Attributes:
        supported: whether they are.
        pareto_k: k-hat; None where it cannot be fitted.
        effective_sample_size: (sum w)^2 / sum w^2, in draws.
        draws: how many there are.
    """

    supported: bool
    pareto_k: float | None
    effective_sample_size: float
    draws: int

    def __str__(self) -> str:
        k = "not defined" if self.pareto_k is None else f"{self.pareto_k:.2f}"
        return f"k-hat {k}, {self.effective_sample_size:.0f} effective draws of {self.draws}"


def weight_support(log_weight: ArrayLike) -> WeightSupport:
    """Importance weights are supported by k-hat below 0.7 or an effective sample size above 90 %,
    and by at least 100 effective draws, or half of them where there are fewer than 200.

    Raises:
        ValueError: for NaN or +inf, or if all weights are zero.

    >>> str(weight_support(np.where(np.arange(1000) < 2, 0.0, -50.0)))
    'k-hat 0.05, 2 effective draws of 1000'
    """
    draws = np.size(log_weight)
    fraction, k = effective_sample_size_fraction(log_weight), pareto_k(log_weight)
    reliable = k is None or k < LARGEST_K or fraction > HIGH_FRACTION
    enough = fraction * draws >= min(LEAST_EFFECTIVE, draws / 2)
    return WeightSupport(reliable and enough, k, fraction * draws, draws)


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
