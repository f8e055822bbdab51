r"""What importance weights :math:`w_i = \tilde p(x_i) / q(x_i)`, with :math:`x_i \sim q`, say about
q.

A weight of zero (a log weight of -inf, a draw where the posterior has no mass) is legal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.arrays import log_densities, mean_and_standard_error

__all__ = ["effective_sample_size_fraction", "elbo", "log_evidence"]


def effective_sample_size_fraction(log_weight: ArrayLike) -> float:
    r"""The fraction :math:`(\sum w_i)^2 / (n \sum w_i^2)`: 1 if q is the posterior, 1/n if one draw
    carries everything.

    >>> effective_sample_size_fraction([-1000.0, -1000.0, -np.inf, -np.inf])
    0.5

    Raises:
        ValueError: for NaN or +inf, or if all weights are zero.
    """
    weight = _relative_weights(log_weight, at_least=1)[0]
    return float(weight.sum() ** 2 / (len(weight) * np.square(weight).sum()))


def log_evidence(log_weight: ArrayLike) -> tuple[float, float]:
    r"""The estimate :math:`\log \frac{1}{n} \sum w_i` of the log evidence in nats, and its standard
    error.

    The error is that of the mean weight divided by the mean weight (delta method): too small where
    a few draws carry the sum.

    Raises:
        ValueError: for NaN or +inf, or if all weights are zero.
    """
    weight, largest = _relative_weights(log_weight, at_least=2)
    mean, standard_error = mean_and_standard_error(weight)
    return float(largest + np.log(mean)), standard_error / mean


def elbo(log_weight: ArrayLike) -> tuple[float, float]:
    r"""The evidence lower bound :math:`\frac{1}{n} \sum \log w_i` in nats, and its standard error.

    A single weight of zero makes it -inf, with an infinite error.

    Raises:
        ValueError: for NaN or +inf, or if all weights are zero.
    """
    return mean_and_standard_error(_log_weights(log_weight, at_least=2))


def _log_weights(log_weight: ArrayLike, at_least: int) -> np.ndarray:
    array = log_densities("log_weight", log_weight, allow_zero=True, at_least=at_least)
    if np.isneginf(array).all():
        raise ValueError(
            "`log_weight` must have a draw of non-zero weight, and all are -inf: the posterior has"
            " no mass where q has its draws"
        )
    return array


def _relative_weights(log_weight: ArrayLike, at_least: int) -> tuple[np.ndarray, float]:
    """Weights divided by the largest, so that nothing overflows, and the logarithm of the
    largest.
    """
    array = _log_weights(log_weight, at_least)
    return np.exp(array - array.max()), float(array.max())
