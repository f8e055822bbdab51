"""What the draws of a posterior predict against what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.one_parameter import POSTERIOR
from pflow.figures.palette import INK, MUTED
from pflow.figures.style import new_figure, style

__all__ = ["Prediction", "compare", "prediction_and_data"]

BANDS = {90: "#cfe3f1", 50: "#86b9da"}  # per cent: colour
IN_A_ROW = 1000  # more data than this have no band along their index
BARS = 400  # of data against predictions, at most
FEW = 20  # data have no histogram of residuals
NORMAL_90 = 1.645  # half of the central 90 % interval of N(0, 1)
BINS = 24


@dataclass(frozen=True)
class Prediction:
    """Data, and their distribution under the posterior; missing data are left out.

    Attributes:
        measured: (data,).
        bands: lower and upper ends for each percentage of `BANDS`, (2, data).
        median: of the predictions, (data,).
        residual: measured minus the mean prediction, over the standard deviation of the predictions
            (noise included), (data,).
        kept: which data are not missing, (*data).
        covered: share of the data inside of their 90 % band.
    """

    measured: np.ndarray
    bands: dict[int, np.ndarray]
    median: np.ndarray
    residual: np.ndarray
    kept: np.ndarray
    covered: float


def compare(observed: ArrayLike, predicted: ArrayLike) -> Prediction:
    """The distribution of each datum.

    Arguments:
        observed: y, (*data).
        predicted: F(x) + noise at draws of the posterior, (draws, *data). A datum whose predictions
            are all equal was not measured: noise adds nothing to it.

    Raises:
        ValueError: different shapes, or no datum was measured.
    """
    y, draws = np.asarray(observed, dtype=float), np.asarray(predicted, dtype=float)
    if draws.shape[1:] != y.shape:
        raise ValueError(
            f"`predicted` must have shape (draws, {', '.join(map(str, y.shape))}), and has"
            f" {draws.shape}"
        )
    draws = draws[np.isfinite(draws).reshape(len(draws), -1).all(1)]
    spread = draws.std(0, ddof=1) if len(draws) > 1 else np.zeros(y.shape)
    kept = (spread > 0) & np.isfinite(y)
    if not kept.any():
        raise ValueError("`predicted` must hold predictions that differ, of at least one datum")
    measured, values = y[kept], draws[:, kept]
    bands = {
        percent: np.quantile(values, [0.5 - percent / 200, 0.5 + percent / 200], axis=0)
        for percent in BANDS
    }
    low, high = bands[90]
    return Prediction(
        measured,
        bands,
        np.median(values, axis=0),
        (measured - values.mean(0)) / spread[kept],
        kept,
        float(np.mean((measured >= low) & (measured <= high))),
    )


def prediction_and_data(
    observed: ArrayLike,
    predicted: ArrayLike,
    *,
    unit: str = "1",
    axis_names: tuple[str, str] = ("datum", "datum"),
) -> Figure:
    """Measured data over the bands that hold 50 and 90 % of the predictions, and the residuals.

    What one should see: nine data of ten, or more, within the outer band (more, because the draws
    have seen these data), and residuals without a pattern, mostly between the dashed lines. A
    pattern means a wrong operator or a wrong posterior; residuals that are all large mean that the
    noise was assumed too small.

    A row of up to 1000 data is drawn along its index. Others are drawn as predicted against
    measured values, some of them, and the residuals of two-dimensional data as a map.

    Arguments:
        observed: y, (*data).
        predicted: F(x) + noise at draws of the posterior, (draws, *data).
        unit: of the data; "1" for a pure number.
        axis_names: of the horizontal and the vertical axis of two-dimensional data.
    """
    found = compare(observed, predicted)
    of_unit = "" if unit == "1" else f" ({unit})"
    title = f"{100 * found.covered:.0f} % of {found.measured.size} data in their 90 % band"
    shape = np.squeeze(found.kept).shape
    histogram = found.measured.size >= FEW
    with style():
        if len(shape) < 2 and found.kept.size <= IN_A_ROW:
            figure = new_figure(10.0 if histogram else 7.0, 4.8)
            grid = figure.add_gridspec(
                2, 2 if histogram else 1, height_ratios=(2, 1), width_ratios=(3, 1)[: 1 + histogram]
            )
            axes = figure.add_subplot(grid[0, 0])
            below = figure.add_subplot(grid[1, 0], sharex=axes)
            _draw_row(axes, found, f"data{of_unit}")
            axes.tick_params(axis="x", labelbottom=False)
            last = grid[:, 1] if histogram else None
        else:
            figure = new_figure(11.0 if histogram else 7.5, 3.9)
            grid = figure.add_gridspec(1, 2 + histogram, width_ratios=(3, 3, 2)[: 2 + histogram])
            axes, below = (figure.add_subplot(grid[0, i]) for i in range(2))
            _draw_against(axes, found, of_unit)
            last = grid[0, 2] if histogram else None
        axes.set_title(title)
        if len(shape) == 2:
            _draw_map(figure, below, found, axis_names)
        else:
            _draw_residuals(below, found)
        if last is not None:
            _draw_histogram(figure.add_subplot(last), found.residual)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw_row(axes: Axes, found: Prediction, name: str) -> None:
    """Bands and data along their index."""
    place = np.flatnonzero(found.kept)
    without_gaps = place.size >= FEW and place[-1] - place[0] == place.size - 1
    for percent, colour in BANDS.items():
        low, high = found.bands[percent]
        look: dict[str, Any] = {"color": colour, "label": f"{percent} % of the predictions"}
        if without_gaps:
            axes.fill_between(place, low, high, lw=0, **look)
        else:
            axes.vlines(place, low, high, lw=max(1.5, 24 / place.size), **look)
    axes.set_xlim(place[0] - 0.5, place[-1] + 0.5)
    size = 4.0 if place.size <= 200 else 2.5
    axes.plot(place, found.measured, "o", ms=size, color=INK, label="measured", ls="")
    axes.set_ylabel(name)


def _draw_against(axes: Axes, found: Prediction, of_unit: str) -> None:
    """Predictions against measured values, evenly spaced ones of them."""
    some = slice(None, None, -(-found.measured.size // BARS))
    at = found.measured[some]
    for percent, colour in BANDS.items():
        low, high = found.bands[percent][:, some]
        axes.vlines(at, low, high, color=colour, lw=2, label=f"{percent} % of the predictions")
    axes.plot(at, found.median[some], "o", ms=2.5, color=POSTERIOR, label="median", ls="")
    middle = float(at.mean())
    axes.axline((middle, middle), slope=1, color=MUTED, lw=1.2, ls="--", label="equal")
    axes.set(xlabel=f"measured{of_unit}", ylabel=f"predicted{of_unit}")
    axes.locator_params(nbins=5)


def _draw_residuals(axes: Axes, found: Prediction) -> None:
    """Residuals along the index, and the lines that hold 90 % of standard normal ones."""
    place = np.flatnonzero(found.kept)
    size = 4.0 if place.size <= 200 else 2.0
    axes.plot(place, found.residual, "o", ms=size, color=INK, ls="")
    _normal_lines(axes.axhline)
    reach = max(3.0, 1.1 * float(np.abs(found.residual).max()))
    axes.set(xlabel="datum", ylabel="residual\n(predictive std)", ylim=(-reach, reach))
    axes.locator_params(axis="x", integer=True)


def _draw_map(figure: Figure, axes: Axes, found: Prediction, axis_names: tuple[str, str]) -> None:
    """Residuals in their places."""
    values = np.full(found.kept.shape, np.nan)
    values[found.kept] = found.residual
    reach = max(3.0, float(np.quantile(np.abs(found.residual), 0.995)))
    image = axes.imshow(
        np.squeeze(values),
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
        aspect="auto",
        interpolation="nearest",
    )
    axes.grid(visible=False)
    axes.set(title="Residuals", xlabel=axis_names[0], ylabel=axis_names[1])
    axes.locator_params(nbins=5, integer=True)
    figure.colorbar(image, ax=axes, label="residual (predictive std)", aspect=30, pad=0.02)


def _draw_histogram(axes: Axes, residual: np.ndarray) -> None:
    """All residuals beside the standard normal density."""
    reach = max(3.5, float(np.quantile(np.abs(residual), 0.995)))
    edges = np.linspace(-reach, reach, BINS + 1)
    heights = np.histogram(residual, edges)[0] / (residual.size * np.diff(edges))
    axes.stairs(heights, edges, fill=True, color=BANDS[50])
    at = np.linspace(-reach, reach, 200)
    axes.plot(at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), color=INK, lw=1.4)
    _normal_lines(axes.axvline)
    axes.set(title="Residuals, N(0, 1)", xlabel="residual (predictive std)", xlim=(-reach, reach))
    axes.tick_params(axis="y", labelleft=False, left=False)
    axes.grid(visible=False)


def _normal_lines(line: Callable[..., Any]) -> None:
    for at in (-NORMAL_90, NORMAL_90):
        line(at, color=MUTED, lw=1.1, ls="--")
