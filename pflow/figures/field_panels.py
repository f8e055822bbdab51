"""A grid of panels, each a two-dimensional array, with one colour bar for each scale that they
share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from pflow.figures.style import new_figure, style

__all__ = ["WIDTH", "Panel", "colours_of_fields", "draw_map", "draw_panels", "panel_height"]

SIGNED, POSITIVE = "gray", "viridis"  # colour maps: of fields around zero, of other fields
WIDTH, BAR = 1.75, 0.8  # of a panel and of a colour bar, in inches
TICKS = 4  # at most, on each axis of a panel


@dataclass(frozen=True)
class Panel:
    """One array and its place.

    Attributes:
        row, column: place in the grid of panels, from the upper left.
        values: (height, width).
        colours: colour map and range, as arguments of `imshow`.
        scale: name of the colour bar that the panel belongs to; empty for none.
        on_grid: whether the array lies on the grid of the field, and so shares its axes.
        method: whether the name of the vertical axis is that of a method, which is larger.
    """

    row: int
    column: int
    title: str
    values: np.ndarray
    colours: dict[str, Any]
    scale: str = ""
    on_grid: bool = True
    x_name: str = ""
    y_name: str = ""
    method: bool = False


def draw_panels(
    panels: Sequence[Panel],
    shape: tuple[int, int],
    extent: tuple[float, float, float, float] | None,
    bars: Sequence[tuple[str, str]],
) -> Figure:
    """The figure.

    Arguments:
        panels: in the order of drawing.
        shape: of the field, (height, width).
        extent: (left, right, bottom, top) of the field; None for pixels.
        bars: scale and title of each colour bar, from the inside out; the first panel of the scale
            gives its colours.
    """
    rows = 1 + max(panel.row for panel in panels)
    columns = 1 + max(panel.column for panel in panels)
    height = panel_height(shape)
    with style():
        figure = new_figure(WIDTH * columns + BAR * len(bars), height * rows + 0.32 * rows + 0.3)
        grid = figure.add_gridspec(rows, columns)
        first_of_scale: dict[str, AxesImage] = {}
        for panel in panels:
            axes = figure.add_subplot(grid[panel.row, panel.column])
            image = draw_map(axes, panel.values, panel.colours, extent, panel.on_grid)
            first_of_scale.setdefault(panel.scale, image)
            _label(axes, panel, last_row=panel.row == rows - 1)
        beside = figure.axes
        for scale, title in bars:
            bar = figure.colorbar(
                first_of_scale[scale],
                ax=beside,
                location="right",
                shrink=0.6,
                pad=0.01,
                aspect=30,
            )
            bar.set_label(title, fontsize=9)
            bar.ax.tick_params(labelsize=8)
    return figure


def panel_height(shape: Sequence[int]) -> float:
    """Inches, for a panel of the usual width: the field's own proportions, within limits."""
    return WIDTH * min(2.0, max(0.5, shape[0] / shape[1]))


def draw_map(
    axes: Axes,
    values: np.ndarray,
    colours: Mapping[str, Any],
    extent: tuple[float, float, float, float] | None,
    on_grid: bool = True,
) -> AxesImage:
    """An array as an image that fills the panel.

    Arguments:
        axes: the panel.
        values: (height, width).
        colours: colour map and range, as arguments of `imshow`.
        extent: (left, right, bottom, top) of the field; None for pixels.
        on_grid: whether the array lies on the grid of the field, and so shares its axes.
    """
    axes.grid(False)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=TICKS)
    place = extent or (0, values.shape[1], values.shape[0], 0)
    return axes.imshow(
        values,
        **colours,
        extent=place if on_grid else None,
        aspect="auto",
        interpolation="nearest",
    )


def colours_of_fields(fields: Sequence[np.ndarray]) -> dict[str, Any]:
    """Colour map and range: symmetric about zero for fields of both signs, otherwise from low to
    high; outliers may saturate.
    """
    low, high = np.quantile(np.stack(fields), [0.005, 0.995])
    if low < 0 < high:
        bound = max(-low, high)
        return {"cmap": SIGNED, "vmin": -bound, "vmax": bound}
    return {"cmap": POSITIVE, "vmin": low, "vmax": high if high > low else low + 1}


def _label(axes: Axes, panel: Panel, last_row: bool) -> None:
    """Title, names of the axes, and tick labels at the edges of the grid alone."""
    axes.set_title(panel.title, fontsize=9.5)
    if panel.x_name:
        axes.set_xlabel(panel.x_name, fontsize=9)
    if panel.y_name:
        axes.set_ylabel(panel.y_name, fontsize=9.5 if panel.method else 9)
    if not panel.on_grid:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(TICKS, integer=True))
        return
    if not last_row:
        axes.set_xticklabels([])
    if panel.column:
        axes.set_yticklabels([])
