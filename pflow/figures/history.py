"""Columns of training histories, and their median over seeds.

A history is anything that gives a column by its name: a dict of lists, a numpy structured array, an
xarray Dataset. Blank cells ("" or None, as in a CSV file) are missing values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Summary", "column", "curve", "median_over_seeds"]


class Summary(NamedTuple):
    """Statistics over seeds at common numbers of evaluations: arrays of one length."""

    evaluations: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def column(history: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    """Column `name` as floats, NaN where it is blank. Raises ValueError if there is no such
    column.
    """
    try:
        values = history[name]
    except (KeyError, ValueError):
        raise ValueError(
            f"a history must have the column '{name}'; it has {', '.join(map(str, history))}"
        ) from None
    return np.array(
        [
            np.nan if value is None or value == "" else float(value)
            for value in np.asarray(values).tolist()
        ]
    )


def curve(
    history: Mapping[str, ArrayLike], name: str, against: str = "evaluations"
) -> tuple[np.ndarray, np.ndarray]:
    """(`against`, `name`) in the rows where `name` is filled in."""
    x, y = column(history, against), column(history, name)
    return x[~np.isnan(y)], y[~np.isnan(y)]


def median_over_seeds(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], spread: str = "range"
) -> Summary:
    """Median and spread over seeds, at every number of evaluations that some seed has been observed
    at.

    Seeds usually share their checkpoints. Where one lacks a checkpoint between two of its own it is
    interpolated (linearly in log(1 + evaluations)); beyond its last one it is left out, and the
    summary ends where fewer than half of the seeds remain.

    Arguments:
        curves: (evaluations, value) of each seed, evaluations increasing.
        spread: "range" (smallest to largest) or "quartiles".
    """
    if spread not in ("range", "quartiles"):
        raise ValueError(f"`spread` (='{spread}') must be 'range' or 'quartiles'")
    curves = [seed for seed in curves if len(seed[0])]
    if not curves:
        return Summary(*(np.zeros(0) for _ in range(4)))
    grid = np.unique(np.concatenate([evaluations for evaluations, _ in curves]))
    values = np.array([on_grid(grid, *seed) for seed in curves])
    kept = 2 * np.sum(~np.isnan(values), axis=0) >= len(curves)
    outer = (0.0, 1.0) if spread == "range" else (0.25, 0.75)
    low, median, high = np.nanquantile(values[:, kept], [outer[0], 0.5, outer[1]], axis=0)
    return Summary(grid[kept], median, low, high)


def on_grid(grid: np.ndarray, evaluations: np.ndarray, values: np.ndarray) -> np.ndarray:
    filled = np.interp(np.log1p(grid), np.log1p(evaluations), values, left=np.nan, right=np.nan)
    observed = np.isin(grid, evaluations)
    filled[observed] = values[
        np.searchsorted(evaluations, grid[observed])
    ]  # exactly what was observed, unrounded
    return filled
