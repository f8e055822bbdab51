"""One parameter of one posterior in a panel: its histogram over the prior's, its intervals and its
true value.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pflow.figures.palette import INK

__all__ = ["INTERVALS", "POSTERIOR", "PRIOR", "draw_legend", "draw_parameter", "window", "wrapped"]

POSTERIOR, PRIOR = "#0072B2", "#d4d4d4"
INTERVALS = {90: 1.8, 50: 5.0}  # per cent: width of its line
BINS = 40
DRAWS_A_BIN = 15  # of the prior, at least on average: it may have few draws where the posterior is
WIDE = 8.0  # inches: from here on the legend has one row
FOOT = 0.07  # of the panel's height, for the intervals


def window(
    draws: np.ndarray, prior: np.ndarray | None = None, true_value: float | None = None
) -> tuple[float, float]:
    """What a panel shows: all but 0.2 % of the draws, and on each side, where the prior goes on,
    as much again; the true value in any case.

    >>> window(np.linspace(0, 1, 1001)) == (0.001, 0.999)
    True
    """
    low, high = np.quantile(draws, [0.001, 0.999])
    if prior is not None:
        before, after = np.quantile(prior, [0.001, 0.999])
        room = high - low
        low, high = min(low, max(before, low - room)), max(high, min(after, high + room))
    if true_value is not None and np.isfinite(true_value):
        low, high = min(low, true_value), max(high, true_value)
    if high > low:
        return float(low), float(high)
    return float(low) - 0.5, float(high) + 0.5


def draw_parameter(
    axes: Axes,
    draws: np.ndarray,
    limits: tuple[float, float],
    prior: np.ndarray | None = None,
    true_value: float | None = None,
) -> None:
    """Fill the panel; heights are densities, of which only the shape is read."""
    edges = np.linspace(*limits, BINS + 1)
    heights = _density(draws, edges)
    top = heights.max()
    if prior is not None:
        inside = np.count_nonzero((prior >= limits[0]) & (prior <= limits[1]))
        coarse = np.linspace(*limits, int(np.clip(inside // DRAWS_A_BIN, 2, BINS)) + 1)
        before = _density(prior, coarse)
        top = max(top, before.max())
        axes.stairs(before, coarse, fill=True, color=PRIOR, zorder=0.5)
    axes.stairs(heights, edges, lw=1.6, color=POSTERIOR)
    foot = -FOOT * top
    for percent, width in INTERVALS.items():
        low, high = np.quantile(draws, [0.5 - percent / 200, 0.5 + percent / 200])
        axes.plot([low, high], [foot, foot], lw=width, color=POSTERIOR, solid_capstyle="butt")
    axes.plot(np.median(draws), foot, "o", ms=4, color="white", mec=POSTERIOR, mew=1.2)
    if true_value is not None and np.isfinite(true_value):
        axes.axvline(true_value, color=INK, lw=1.3, ls="--")
    axes.set(xlim=limits, ylim=(2 * foot, 1.08 * top))
    axes.tick_params(axis="y", labelleft=False, left=False)
    axes.grid(visible=False)


def draw_legend(figure: Figure, prior: bool, truth: bool) -> None:
    """Below the panels: what the lines mean, in two rows where the figure is narrow."""
    shown: list[tuple[Artist, str]] = [(Patch(color=PRIOR), "prior")] if prior else []
    shown.append((Line2D([], [], color=POSTERIOR, lw=1.6), "posterior"))
    shown += [
        (Line2D([], [], color=POSTERIOR, lw=width, solid_capstyle="butt"), f"{percent} % interval")
        for percent, width in sorted(INTERVALS.items())
    ]
    if truth:
        shown.append((Line2D([], [], color=INK, lw=1.3, ls="--"), "true value"))
    columns = 5 if figure.get_figwidth() > WIDE else 3
    figure.legend(*zip(*shown, strict=True), loc="outside lower center", ncols=columns)


def wrapped(names: Sequence[str], width: int) -> list[str]:
    r"""Names in lines of at most so many characters.

    >>> wrapped(["damping rate (1/s)"], 12)
    ['damping rate\n(1/s)']
    """
    return [textwrap.fill(name, width) for name in names]


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Of all values, those outside of the edges too."""
    return np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
