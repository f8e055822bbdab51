"""Where the true field lies in the posterior, place by place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.field_panels import WIDTH, draw_map, panel_height
from pflow.figures.one_parameter import POSTERIOR
from pflow.figures.palette import INK, MUTED
from pflow.figures.style import new_figure, style

__all__ = ["pixel_coverage"]

DEVIATIONS = {"cmap": "PuOr", "vmin": -3.0, "vmax": 3.0}  # in standard deviations
INTERVALS = ("#eceff1", "#86b9da", "#0072B2", "#d55e00")  # from the innermost one to outside of all
SIDE = 1.35  # width of a panel against those of other maps: there are three only


def pixel_coverage(
    deviation: ArrayLike,
    inside: Mapping[int, ArrayLike],
    *,
    expected: Mapping[int, tuple[float, float]] | None = None,
    extent: tuple[float, float, float, float] | None = None,
    axis_names: tuple[str, str] = ("lateral (pixel)", "depth (pixel)"),
) -> Figure:
    """Maps of the error in standard deviations and of the interval that holds the truth, and the
    share of pixels in each interval beside its nominal value.

    What one should see: no structure in either map, both signs alike, and bars that end near the
    lines. Large areas of one sign mean that the posterior is off there; bars that end short of the
    lines, and of the whiskers, that it is too sure of itself; bars that pass them, that it is wider
    than need be.

    Arguments:
        deviation: (truth - mean) / standard deviation, (height, width).
        inside: for each percentage, ascending, whether the central interval of that many percent of
            the draws holds the truth, (height, width).
        expected: for each percentage, between which shares a draw of the posterior in place of the
            truth ends nine times of ten: neighbours err together, so shares vary.
        extent: (left, right, bottom, top) in the units of `axis_names`; by default pixels.
        axis_names: of the horizontal and the vertical axis, with units.
    """
    z = np.asarray(deviation, dtype=float)
    within = {percent: np.asarray(mask, dtype=bool) for percent, mask in inside.items()}
    outside_of = np.sum([~mask for mask in within.values()], axis=0)
    with style():
        height = SIDE * panel_height(z.shape)
        figure = new_figure(3 * SIDE * WIDTH + 2.4, max(height, 2.2) + 0.75)
        first, second, third = figure.subplots(1, 3)
        image = draw_map(first, z, DEVIATIONS, extent)
        first.set(title="(Truth \N{MINUS SIGN} mean) / std", xlabel=axis_names[0])
        first.set_ylabel(axis_names[1])
        figure.colorbar(image, ax=first, extend="both", aspect=25, pad=0.03)
        levels = np.arange(len(within) + 2) - 0.5
        colours = {
            "cmap": ListedColormap(INTERVALS[: len(within)] + INTERVALS[-1:]),
            "norm": BoundaryNorm(levels, len(within) + 1),
        }
        image = draw_map(second, outside_of, colours, extent)
        second.set(title="Interval with the truth", xlabel=axis_names[0], yticklabels=[])
        bar = figure.colorbar(
            image, ax=second, ticks=range(len(within) + 1), aspect=25, pad=0.03, drawedges=True
        )
        bar.ax.set_yticklabels([*(f"{percent} %" for percent in within), "outside"])
        bar.ax.tick_params(length=0)
        _shares(third, within, expected or {})
    return figure


def _shares(
    axes: Axes, inside: Mapping[int, np.ndarray], expected: Mapping[int, tuple[float, float]]
) -> None:
    """A bar for each interval, a line at its nominal share, and what is expected as a whisker."""
    axes.set(title="Pixels in the interval", xlabel="share of pixels (%)", xlim=(0, 100))
    axes.set_yticks(range(len(inside)), [f"{percent} %" for percent in inside])
    axes.set_ylim(len(inside) - 0.4, -0.6)
    axes.set_xticks([0, 50, 100])
    axes.grid(False, axis="y")
    for place, (percent, mask) in enumerate(inside.items()):
        share = 100 * float(mask.mean())
        axes.barh(place, share, height=0.5, color=POSTERIOR)
        axes.plot([percent, percent], [place - 0.36, place + 0.36], color=INK, lw=2.5)
        beside = axes.get_yaxis_transform()
        axes.text(1.04, place, f"{share:.0f} %", va="center", weight="bold", transform=beside)
        if percent in expected:
            low, high = (100 * share for share in expected[percent])
            axes.plot([low, high], [place + 0.38] * 2, color=MUTED, lw=2.5)
