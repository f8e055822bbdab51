"""Checks of the arrays of all diagnostics."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["log_densities", "mean_and_standard_error"]


def log_densities(
    name: str, values: ArrayLike, *, allow_zero: bool, at_least: int = 2
) -> np.ndarray:
    """Log densities or log weights of draws as a float64 vector.

    Arguments:
        name: their name in error messages.
        values: one number for each draw.
        allow_zero: whether -inf, a density of zero, is legal.
        at_least: how many draws are needed.

    Raises:
        ValueError: for a wrong shape, too few draws, NaN, +inf, or -inf where it is not legal.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < at_least:
        raise ValueError(
            f"`{name}` must be a vector of at least {at_least} draws, and has shape {array.shape}"
        )
    illegal = np.isnan(array) | (array == np.inf) | (np.isneginf(array) & (not allow_zero))
    if illegal.any():
        legal = "finite or -inf" if allow_zero else "finite"
        raise ValueError(
            f"`{name}` must be {legal}, and {illegal.sum()} of {len(array)} values are not (the"
            f" first: {array[illegal][0]})"
        )
    return array


def mean_and_standard_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of independent values, and its standard error; an infinite mean has an infinite
    error.
    """
    mean = float(values.mean())
    return mean, float(values.std(ddof=1) / np.sqrt(len(values))) if np.isfinite(mean) else np.inf
