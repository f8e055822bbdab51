"""Arrays of models, data or draws as rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["flattened"]


def flattened(array: ArrayLike) -> np.ndarray:
    """(n, ...) as (n, D), in double precision."""
    rows = np.asarray(array, dtype=np.float64)
    return rows.reshape(len(rows), -1)
