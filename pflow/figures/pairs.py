"""Pair plot: the posterior of every pair of some parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.one_parameter import POSTERIOR, draw_legend, draw_parameter, window, wrapped
from pflow.figures.palette import INK
from pflow.figures.style import new_figure, style

__all__ = ["mass_levels", "pair_plot"]

MASSES = (0.9, 0.5)
REGIONS = ("#cfe3f1", "#86b9da")  # of those masses
CELLS = 40  # of the histogram, on each side
BLUR = 1.5  # standard deviation of its smoothing, in cells
POINTS = 800, 250  # in a large and in a small panel; more hide each other
LARGE = 3  # parameters, at most, have large panels


def pair_plot(
    draws: ArrayLike,
    parameter_names: Sequence[str],
    *,
    prior: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
) -> Figure:
    """Regions that hold 50 and 90 % of the draws of each pair, below the diagonal; the marginals
    over the prior's on it; correlations above it.

    What one should see: round regions where parameters are independent, narrow slanted ones where
    the data fix only a combination, bent ones where the problem is nonlinear, and islands where
    there are several modes. The cross is the true model.

    Arguments:
        draws: of the posterior, (draws, parameters), two parameters or more.
        parameter_names: with units where there are any.
        prior: draws of the prior, (draws, parameters).
        x_true: the true values, (parameters,).
    """
    x = np.asarray(draws, dtype=float)
    before = None if prior is None else np.asarray(prior, dtype=float)
    truth = None if x_true is None else np.asarray(x_true, dtype=float)
    count = x.shape[1]
    large = count <= LARGE
    side = 2.6 if large else 1.4
    names = wrapped(parameter_names, 16 if large else 12)
    limits = [window(x[:, i], None, None if truth is None else truth[i]) for i in range(count)]
    limits = [(low - 0.04 * (high - low), high + 0.04 * (high - low)) for low, high in limits]
    with style():
        figure = new_figure(side * count + 0.7, side * count + 0.9)
        grid = figure.add_gridspec(count, count)
        for row, column in np.ndindex(count, count):
            axes = figure.add_subplot(grid[row, column])
            if row == column:
                of_prior = None if before is None else before[:, row]
                true_value = None if truth is None else float(truth[row])
                draw_parameter(axes, x[:, row], limits[row], of_prior, true_value)
            elif row > column:
                pair = x[:, [column, row]]
                _draw_pair(axes, pair, (limits[column], limits[row]), POINTS[not large])
                if truth is not None:
                    axes.plot(truth[column], truth[row], "P", ms=8, color=INK, mec="white", mew=1)
            else:
                _write_correlation(axes, x[:, [column, row]], large)
            _label(axes, row, column, names)
        draw_legend(figure, before is not None, truth is not None)
    return figure


def mass_levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """The density above which the given shares of the mass lie, one for each.

    >>> mass_levels(np.array([[4.0, 3.0], [2.0, 1.0]]), [0.4, 0.7])
    [4.0, 3.0]
    """
    falling = np.sort(density, axis=None)[::-1]
    held = np.cumsum(falling) / falling.sum()
    return [float(falling[np.searchsorted(held, mass - 1e-12)]) for mass in masses]


def _draw_pair(
    axes: Axes, pair: np.ndarray, limits: tuple[tuple[float, float], ...], points: int
) -> None:
    """Points, and regions of highest density of their smoothed histogram."""
    shown = pair[:: -(-len(pair) // points)]
    look: dict[str, Any] = {
        "s": 3,
        "color": POSTERIOR,
        "alpha": 0.35,
        "linewidths": 0,
        "rasterized": True,
    }
    axes.scatter(*shown.T, **look)
    counts, *edges = np.histogram2d(pair[:, 0], pair[:, 1], bins=CELLS, range=limits)
    density = _smooth(counts)
    if density.any():
        across, along = ((edge[:-1] + edge[1:]) / 2 for edge in edges)
        levels = [*mass_levels(density, MASSES), np.inf]
        if levels[0] < levels[1]:
            axes.contourf(across, along, density.T, levels=levels, colors=REGIONS, alpha=0.75)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.grid(visible=False)


def _smooth(counts: np.ndarray) -> np.ndarray:
    """Convolution with a Gaussian along both axes."""
    reach = np.arange(-int(4 * BLUR), int(4 * BLUR) + 1)
    kernel = np.exp(-0.5 * (reach / BLUR) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, mode="same")
    return counts


def _write_correlation(axes: Axes, pair: np.ndarray, large: bool) -> None:
    """The correlation coefficient, where both parameters vary."""
    axes.set_axis_off()
    if (np.ptp(pair, axis=0) > 0).all():
        value = float(np.corrcoef(pair.T)[0, 1])
        text = ("correlation " if large else "") + f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
        place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, text, fontsize=12, color=INK, alpha=0.4 + 0.6 * abs(value), **place)


def _label(axes: Axes, row: int, column: int, names: Sequence[str]) -> None:
    """Names and ticks at the left and at the bottom alone."""
    last = len(names) - 1
    axes.locator_params(nbins=4 if last < 3 else 3)
    axes.tick_params(labelsize=8.5)
    if row == last:
        axes.set_xlabel(names[column], fontsize=9.5)
        axes.tick_params(axis="x", rotation=35 if last >= 3 else 0)
    else:
        axes.tick_params(axis="x", labelbottom=False)
    if column == 0 and row:
        axes.set_ylabel(names[row], fontsize=9.5)
    elif row > column:
        axes.tick_params(axis="y", labelleft=False)
