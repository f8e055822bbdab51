"""Regions of highest posterior density in the plane, from draws with their log density.

The region of highest density that holds a mass m is {x : log p(x | y) >= c} with c the (1 - m)
quantile of log p over exact draws, so draws with their log density are all that is needed: log p
between and just around them is a cubic spline with a quadratic trend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["MASSES", "cubic_spline", "highest_density_regions", "points"]

MASSES = (0.99, 0.9, 0.5)  # from the outside in


def highest_density_regions(exact: ArrayLike | None, log_density: ArrayLike | None) -> tuple | None:
    """Two grids, the log density on them, and the levels that bound the `MASSES`; None without a
    density.
    """
    if exact is None or log_density is None:
        return None
    draws, log_density = points(exact, "exact"), np.asarray(log_density, dtype=float).reshape(-1)
    if len(draws) != len(log_density):
        raise ValueError(
            f"`exact_log_density` must hold one value a draw: {len(log_density)} for {len(draws)}"
            " draws"
        )
    levels = np.quantile(log_density, [1 - mass for mass in MASSES])
    order = np.argsort(log_density)
    few = np.union1d(
        order[:200], order[:: max(1, len(order) // 500)]
    )  # the outermost draws bound the spline
    _, distinct = np.unique(draws[few], axis=0, return_index=True)
    few = few[distinct]
    low, scale = draws.min(axis=0), np.ptp(draws, axis=0)
    grid = np.linspace(-0.15, 1.15, 160)
    cells = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    density, distance = cubic_spline((draws[few] - low) / scale, log_density[few], cells)
    density[distance > 0.1] = -np.inf
    density = np.maximum(
        density, levels[0] - 5.0
    )  # far from all draws there is less than in any region
    return (
        low[0] + scale[0] * grid,
        low[1] + scale[1] * grid,
        density.reshape(len(grid), -1),
        levels,
    )


def cubic_spline(
    points: np.ndarray, values: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """s(x) = sum_i w_i |x - x_i|^3 + a quadratic, with s(x_i) = values_i; also the distance to the
    nearest x_i.

    The weights w are orthogonal to all quadratics (Wendland, Scattered Data Approximation, 2004,
    section 8.5).
    """

    def distances(x: np.ndarray) -> np.ndarray:
        return np.hypot(x[:, None, 0] - points[:, 0], x[:, None, 1] - points[:, 1])

    def quadratics(x: np.ndarray) -> np.ndarray:
        first, second = x.T
        return np.stack(
            [np.ones_like(first), first, second, first**2, first * second, second**2], axis=1
        )

    trend = quadratics(points)
    system = np.block([[distances(points) ** 3, trend], [trend.T, np.zeros((6, 6))]])
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros(6)]))
    to_points = distances(at)
    return to_points**3 @ weights[:-6] + quadratics(at) @ weights[-6:], to_points.min(axis=1)


def points(values: ArrayLike, name: str) -> np.ndarray:
    """Draws in the plane, (n, 2), whatever axes come before."""
    values = np.asarray(values, dtype=float)
    if values.ndim < 2 or values.shape[-1] != 2:
        raise ValueError(
            f"draws of '{name}' must have shape (..., 2) for a figure in two dimensions, not"
            f" {values.shape}"
        )
    return values.reshape(-1, 2)
