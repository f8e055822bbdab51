"""Parts of figures of two-dimensional draws: panels, clouds of draws, marked points, remarks and
the legend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from pflow.figures.highest_density import MASSES
from pflow.figures.palette import INK

__all__ = [
    "arrange",
    "legend",
    "limits",
    "mark",
    "marked",
    "panel",
    "posterior_panel",
    "posterior_title",
    "remark",
    "scatter",
]

REGION_COLOURS = ("#f0f0f0", "#dedede", "#c6c6c6")
DRAWS_SHOWN = 1500  # more points hide each other


def marked(point: ArrayLike | None) -> list[np.ndarray]:
    """The point as a cloud of one, (1, 2); no cloud for None."""
    return [] if point is None else [np.asarray(point, dtype=float).reshape(-1, 2)]


def limits(
    clouds: Sequence[np.ndarray], around: np.ndarray | None = None
) -> tuple[tuple[float, float], ...]:
    """Axis limits that hold all but the outermost 0.2 % of every cloud; an outlier must not reduce
    the scale.

    With `around`, no more than 1.6 times that cloud's extent is shown (single points always):
    a method that is far off must not reduce the scale either. The panel's corner says how many of
    its draws are outside.
    """
    low, high = extent(np.concatenate([extent(cloud) for cloud in clouds]), 0.0)
    if around is not None:
        centre_low, centre_high = extent(around)
        slack = 0.3 * (centre_high - centre_low)
        kept = np.concatenate(
            [[centre_low, centre_high], *(cloud for cloud in clouds if len(cloud) == 1)]
        )
        low = np.minimum(np.maximum(low, centre_low - slack), kept.min(axis=0))
        high = np.maximum(np.minimum(high, centre_high + slack), kept.max(axis=0))
    room = 0.06 * np.maximum(high - low, 1e-12)
    return tuple(zip((low - room).tolist(), (high + room).tolist(), strict=True))


def extent(cloud: np.ndarray, tail: float = 0.001) -> np.ndarray:
    """Lowest and highest coordinates without the tails, (2, 2)."""
    return np.quantile(cloud, [tail, 1 - tail], axis=0)


def arrange(above: int, below: int) -> tuple[int, int, int]:
    """Columns, rows, and the cell of the first posterior, with few empty cells; one row if all
    fit.
    """
    if above + below <= 4:
        return above + below, 1, above + 1
    columns = min((3, 4), key=lambda count: -below % count + count - above)
    return columns, 1 + -(-below // columns), columns + 1


def panel(
    figure: Figure,
    rows: int,
    columns: int,
    place: int,
    title: str,
    names: Sequence[str],
    window: tuple | None = None,
) -> Axes:
    """Empty axes in cell `place` of the grid, counted from 1, that show `window`, ((left, right),
    (bottom, top)), where it is given.
    """
    axes = figure.add_subplot(rows, columns, place)
    axes.set(title=title, xlabel=names[0], ylabel=names[1])
    axes.locator_params(nbins=5)
    if window is not None:
        axes.set(xlim=window[0], ylim=window[1])
    return axes


def posterior_title(label: str) -> str:
    """Title of a method's panel."""
    return (
        f"Posterior: {label}" if len(label) < 20 else label
    )  # wider titles would meet their neighbours


def posterior_panel(
    axes: Axes, draws: np.ndarray, regions: tuple | None, x_true: ArrayLike | None, colour: str
) -> None:
    """Draws of one method over the regions of the exact posterior."""
    if regions is not None:
        *grid, levels = regions
        axes.contourf(*grid, levels=[*levels, np.inf], colors=REGION_COLOURS, zorder=0.6)
        axes.contour(
            *grid, levels=levels, colors="#8c8c8c", linewidths=0.7, linestyles="solid", zorder=0.7
        )
    scatter(axes, draws, colour)
    mark(axes, x_true, "P")


def scatter(axes: Axes, draws: np.ndarray, colour: str) -> None:
    """A cloud of draws, thinned where points would hide each other."""
    shown = draws[:: max(1, -(-len(draws) // DRAWS_SHOWN))]
    axes.scatter(
        shown[:, 0], shown[:, 1], s=5, color=colour, alpha=0.4, linewidths=0, rasterized=True
    )


def mark(axes: Axes, point: ArrayLike | None, marker: str) -> None:
    """Mark one point, if there is one."""
    for x, y in (at[0] for at in marked(point)):
        axes.plot(x, y, marker, ms=9, color=INK, mec="white", mew=1.2, zorder=5)


def remark(axes: Axes, draws: np.ndarray, window: tuple, text: str | None) -> None:
    """A few words in the corner, and how many draws lie outside of the panel."""
    lines = [text] if text else []
    low, high = np.transpose(window)
    outside = np.mean(np.any((draws < low) | (draws > high), axis=1))
    if outside >= 0.01:
        lines.append(f"{100 * outside:.0f} % outside")
    if lines:
        box = {
            "boxstyle": "round,pad=0.25",
            "facecolor": "white",
            "edgecolor": "none",
            "alpha": 0.85,
        }
        place: dict[str, Any] = {
            "transform": axes.transAxes,
            "ha": "left",
            "va": "top",
            "linespacing": 1.35,
        }
        axes.text(0.03, 0.97, "\n".join(lines), fontsize=9.5, bbox=box, zorder=6, **place)


def legend(figure: Figure, regions: tuple | None, x_true, y_observed) -> None:
    """The legend of marks and regions, below the panels."""
    entries: list[tuple[Artist, str]] = []
    if x_true is not None:
        entries.append((Line2D([], [], ls="", marker="P", ms=9, color=INK), "true model"))
    if y_observed is not None:
        entries.append((Line2D([], [], ls="", marker="D", ms=7, color=INK), "observation"))
    if regions is not None:
        entries += [
            (
                Patch(facecolor=colour, edgecolor="#8c8c8c", lw=0.7),
                f"{100 * mass:.0f} % of the exact posterior",
            )
            for mass, colour in zip(MASSES[::-1], REGION_COLOURS[::-1], strict=True)
        ]
        entries[-2:] = [(patch, text.split(" of")[0]) for patch, text in entries[-2:]]
    if entries:
        figure.legend(
            *zip(*entries, strict=True),
            loc="outside lower center",
            ncols=5,
            columnspacing=1.4,
        )
