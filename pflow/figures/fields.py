"""Posteriors of a two-dimensional field, such as a seismic image or a map of speeds: one row of
panels a method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pflow.figures.palette import method_label
from pflow.figures.style import new_figure, style

__all__ = ["posterior_fields"]

SIGNED, POSITIVE, SPREAD = (
    "gray",
    "viridis",
    "magma_r",
)  # colour maps: of fields around zero, of other fields, of what is uncertain
PANEL = 1.75  # inches
COLUMNS = ("Conditional mean", "Standard deviation", "|Mean - truth|")


def posterior_fields(
    posteriors: Mapping[str, ArrayLike],
    *,
    x_true: ArrayLike | None = None,
    data: ArrayLike | None = None,
    estimates: Mapping[str, ArrayLike] | None = None,
    samples: int = 2,
    extent: tuple[float, float, float, float] | None = None,
    axis_names: tuple[str, str] = ("lateral (pixel)", "depth (pixel)"),
    label: str = "field",
    unit: str = "1",
    colours: str | None = None,
    data_name: str = "Data",
    data_axes: tuple[str, str] = ("datum", "datum"),
    remarks: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """The true field, the data and other estimates on top; below, for each method, its mean,
    spread, error and some draws.

    What one should see: means that resemble the truth, errors that are large where the standard
    deviation is large (they share one colour scale), and draws that all fit the data and differ
    where the standard deviation is large. A method that explains the data less well has an error
    with structure that its standard deviation does not announce.

    Arguments:
        posteriors: draws of each method, (draws, height, width), in the order of the rows; one
            named "reference" sets the scale of spreads.
        x_true: the true field, (height, width); without it there is no error to show.
        data: what was observed, any two-dimensional array; on the grid of the field it shares its
            axes.
        estimates: other fields for the first row, such as a baseline's mean, by the title of their
            panel.
        samples: draws shown of each method, the first ones.
        extent: (left, right, bottom, top) of the field in the units of `axis_names`; by default
            pixels, counted from the top left.
        axis_names: of the horizontal and the vertical axis, with units.
        label: what the field is, for its colour bar.
        unit: of the field, for its colour bar; "1" for a pure number.
        colours: name of matplotlib's colour map of the field; by default grey around zero.
        data_name: title of the data's panel.
        data_axes: names of the horizontal and the vertical axis of data that do not lie on the grid
            of the field; counted from 0.
        remarks: a few words for the row of a method, such as "SNR 13.2 dB".
        labels: what to call methods, where that is not their name.

    Raises:
        ValueError: for arrays of the wrong shape.
    """
    draws = {name: _draws(values, name) for name, values in posteriors.items()}
    shape = next(iter(draws.values())).shape[1:]
    truth = None if x_true is None else _field(x_true, "x_true", shape)
    others = {title: _field(values, title, shape) for title, values in (estimates or {}).items()}
    means = {name: values.mean(0) for name, values in draws.items()}
    spreads = {name: values.std(0, ddof=1) for name, values in draws.items()}
    errors = {} if truth is None else {name: np.abs(mean - truth) for name, mean in means.items()}
    field_look = _look_of_fields([truth] if truth is not None else list(means.values())) | (
        {"cmap": colours} if colours else {}
    )
    judged = (
        ["reference"] if "reference" in draws else list(draws)
    )  # a method that is far off must not flatten the others
    widths = [part[name] for part in (spreads, errors) if part for name in judged]
    spread_look = {"cmap": SPREAD, "vmin": 0.0, "vmax": float(np.quantile(np.stack(widths), 0.995))}
    place = {"extent": extent or (0, shape[1], shape[0], 0), "aspect": "auto"}

    top: list[tuple[str, np.ndarray, dict, bool]] = (
        [] if truth is None else [("True model", truth, field_look, True)]
    )
    if data is not None:
        observed = np.squeeze(np.asarray(data, dtype=float))
        if observed.ndim != 2:
            raise ValueError(
                "`data` must be a two-dimensional array to be drawn, and has shape"
                f" {np.shape(data)}"
            )
        top.append((data_name, observed, _look_of_fields([observed]), observed.shape == shape))
    top += [(title, values, field_look, True) for title, values in others.items()]

    columns = max(len(top), 2 + bool(errors) + samples)
    rows = bool(top) + len(draws)
    height = PANEL * min(2.0, max(0.5, shape[0] / shape[1]))
    with style():
        figure = new_figure(PANEL * columns + 1.6, height * rows + 0.32 * rows + 0.3)
        grid = figure.add_gridspec(rows, columns)
        shown: dict[str, AxesImage] = {}

        def panel(
            row: int,
            column: int,
            title: str,
            values: np.ndarray,
            look: dict,
            kind: str,
            on_grid: bool = True,
        ) -> Axes:
            axes = figure.add_subplot(grid[row, column])
            axes.grid(False)
            axes.set_title(title, fontsize=9.5)
            axes.tick_params(labelsize=8)
            axes.locator_params(nbins=4)
            image = axes.imshow(
                values,
                **look,
                **(place if on_grid else {"aspect": "auto"}),
                interpolation="nearest",
            )
            if on_grid and row < rows - 1:
                axes.set_xticklabels([])
            if on_grid and column:
                axes.set_yticklabels([])
            if kind:
                shown.setdefault(kind, image)
            return axes

        for column, (title, values, look, on_grid) in enumerate(top):
            axes = panel(
                0, column, title, values, look, "field" if look is field_look else "", on_grid
            )
            if column == 0:
                axes.set_ylabel(axis_names[1], fontsize=9)
            if not on_grid:
                axes.set_xlabel(data_axes[0], fontsize=9)
                axes.set_ylabel(data_axes[1], fontsize=9)
                for axis in (axes.xaxis, axes.yaxis):
                    axis.set_major_locator(MaxNLocator(4, integer=True))
        for row, name in enumerate(draws, start=int(bool(top))):
            parts = [(means[name], field_look, "field"), (spreads[name], spread_look, "spread")]
            parts += [(errors[name], spread_look, "spread")] if errors else []
            parts += [(values, field_look, "field") for values in draws[name][:samples]]
            titles = [*COLUMNS[: 2 + bool(errors)], *(f"Draw {i + 1}" for i in range(samples))]
            for column, (title, (values, look, kind)) in enumerate(
                zip(titles, parts, strict=False)
            ):
                axes = panel(row, column, title if row == bool(top) else "", values, look, kind)
                if column == 0:
                    remark = (remarks or {}).get(name)
                    told = f"{method_label(name, labels)}" + (f"\n{remark}" if remark else "")
                    axes.set_ylabel(told, fontsize=9.5)
                if row == rows - 1:
                    axes.set_xlabel(axis_names[0], fontsize=9)
        of_unit = "" if unit == "1" else f" ({unit})"
        panels = figure.axes
        for kind, title in (
            ("spread", f"standard deviation, error{of_unit}"),
            ("field", f"{label}{of_unit}"),
        ):
            bar = figure.colorbar(
                shown[kind], ax=panels, location="right", shrink=0.6, pad=0.01, aspect=30
            )
            bar.set_label(title, fontsize=9)
            bar.ax.tick_params(labelsize=8)
    return figure


def _draws(values: ArrayLike, name: str) -> np.ndarray:
    draws = np.asarray(values, dtype=float)
    if draws.ndim == 4 and draws.shape[1] == 1:
        draws = draws[:, 0]
    if draws.ndim != 3 or len(draws) < 2:
        raise ValueError(
            f"draws of '{name}' must have shape (draws, height, width) with two draws or more, not"
            f" {np.shape(values)}"
        )
    return draws


def _field(values: ArrayLike, name: str, shape: Sequence[int]) -> np.ndarray:
    field = np.squeeze(np.asarray(values, dtype=float))
    if field.shape != tuple(shape):
        raise ValueError(
            f"`{name}` must have the shape of the draws, {tuple(shape)}, and has {np.shape(values)}"
        )
    return field


def _look_of_fields(fields: Sequence[np.ndarray]) -> dict:
    """Colour map and range: symmetric about zero for fields of both signs, otherwise from low to
    high; outliers may saturate.
    """
    low, high = np.quantile(np.stack(fields), [0.005, 0.995])
    if low < 0 < high:
        bound = max(-low, high)
        return {"cmap": SIGNED, "vmin": -bound, "vmax": bound}
    return {"cmap": POSITIVE, "vmin": low, "vmax": high if high > low else low + 1}
