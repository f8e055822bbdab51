"""Errors of posterior moments, in units of the reference's standard deviation, averaged over the
parameters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["mean_error", "std_error"]


def mean_error(mean: ArrayLike, reference_mean: ArrayLike, reference_std: ArrayLike) -> float:
    """The average of |mean - reference_mean| / reference_std.

    >>> mean_error([1.0, 2.0], [1.0, 1.0], [0.5, 2.0])
    0.25

    Raises:
        ValueError: for different shapes, values that are not finite, or a reference_std that is not
            positive.
    """
    mean, reference_mean, reference_std = _alike(
        mean=mean, reference_mean=reference_mean, reference_std=reference_std
    )
    return float((np.abs(mean - reference_mean) / reference_std).mean())


def std_error(std: ArrayLike, reference_std: ArrayLike) -> float:
    """The average of |std / reference_std - 1|.

    >>> std_error([1.5, 1.0], [1.0, 1.0])
    0.25

    Raises:
        ValueError: for different shapes, values that are not finite, or a reference_std that is not
            positive.
    """
    std, reference_std = _alike(std=std, reference_std=reference_std)
    return float(np.abs(std / reference_std - 1).mean())


def _alike(**values: ArrayLike) -> list[np.ndarray]:
    """The arrays in float64, if they are finite, of one shape, and `reference_std` is positive."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"moments must have one shape, and have {shapes}")
    for name, array in arrays.items():
        if array.size == 0 or not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` must hold finite values, and is empty or holds NaN or infinity"
            )
    if (arrays["reference_std"] <= 0).any():
        raise ValueError(
            "`reference_std` must be positive, and its smallest value is"
            f" {arrays['reference_std'].min()}"
        )
    return list(arrays.values())
