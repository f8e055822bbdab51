r"""The misfit of posterior draws compared with its exact distribution.

For x drawn from the posterior of y, the pair (x, y) has the joint distribution of model and data.
So the residual of *one* draw, :math:`(y - F(x)) / \sigma`, is standard normal over repeated
observations, and

.. math::
    X = \frac{1}{m} \left\| \frac{y - F(x)}{\sigma} \right\|^2

has mean 1 and variance 2 / m exactly, whatever prior, operator and dimension: no degrees of freedom
are lost. The average over all draws of one observation is E[X given y]: its mean is 1 as well, its
variance at most 2 / m, and it is below X in convex order. Hence, for any s < t,

.. math::
    P(E[X | y] \ge t) \le \frac{E (E[X | y] - s)_+}{t - s} \le \frac{E (X - s)_+}{t - s}

and the best s gives a p-value that is valid without simulating or refitting anything; the lower
tail likewise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

__all__ = ["predictive_chi_square"]


def predictive_chi_square(chi_square: ArrayLike, data_size: int) -> dict[str, float]:
    """Average chi-square per datum over the draws, the most it should spread around 1, and a
    two-sided p-value.

    Arguments:
        chi_square: |(y - F(x)) / noise_std|^2 / m of each draw.
        data_size: m, the number of data.

    Raises:
        ValueError: for values that are not finite or negative.
    """
    values = np.asarray(chi_square, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("`chi_square` must hold one finite value, at least 0, for each draw")
    average = float(values.mean())
    return {
        "predictive_chi_square": average,
        "predictive_chi_square_spread": math.sqrt(2 / data_size),
        "predictive_p_value": min(1.0, 2 * _tail_bound(average, data_size)),
    }


def _tail_bound(t: float, m: int) -> float:
    """Bound on the probability that E[X given y] is as far from 1 as t, on its side of 1."""
    place = np.linspace(0, 1, 1001)[1:-1]
    if t > 1:
        s = t * place
        bound = _excess(s, m) / (t - s)
    else:
        s = t + 5 * place
        bound = (s - 1 + _excess(s, m)) / (s - t)
    return float(np.clip(bound.min(), 0.0, 1.0))


def _excess(s: np.ndarray, m: int) -> np.ndarray:
    """E (X - s)_+ for m X ~ chi-square with m degrees of freedom."""
    return chdtrc(m + 2, m * s) - s * chdtrc(m, m * s)
