"""Posteriors of a two-dimensional field, such as a seismic image or a map of speeds: one row of
panels a method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.field_panels import Panel, colours_of_fields, draw_panels
from pflow.figures.palette import method_label

__all__ = ["posterior_fields"]

SPREAD_COLOURS = "magma_r"


@dataclass(frozen=True)
class FieldMoments:
    """Mean and standard deviation over draws, and |mean - truth|; None without a true field."""

    mean: np.ndarray
    spread: np.ndarray
    error: np.ndarray | None


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
    where the standard deviation is large. A method that explains the data less well has errors with
    structure that its standard deviation does not show.

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
    moments = {name: _moments(values, truth) for name, values in draws.items()}
    scaled_by = [truth] if truth is not None else [of.mean for of in moments.values()]
    field_colours = colours_of_fields(scaled_by) | ({"cmap": colours} if colours else {})
    spread_colours = _spread_colours(moments)

    first_row = _field_entries({} if truth is None else {"True model": truth}, field_colours)
    if data is not None:
        first_row.append(_data_entry(data, data_name, data_axes, shape))
    first_row += _field_entries(others, field_colours)
    panels = [
        Panel(0, column, **({"y_name": "" if column else axis_names[1]} | entry))
        for column, entry in enumerate(first_row)
    ]
    rows = int(bool(first_row)) + len(draws)
    for row, (name, values) in enumerate(draws.items(), start=rows - len(draws)):
        entries = _moment_entries(moments[name], field_colours, spread_colours)
        shown = {f"Draw {i + 1}": draw for i, draw in enumerate(values[:samples])}
        remark = (remarks or {}).get(name)
        y_name = method_label(name, labels) + (f"\n{remark}" if remark else "")
        for column, entry in enumerate(entries + _field_entries(shown, field_colours)):
            labelled = {
                "title": entry["title"] if row == rows - len(draws) else "",
                "x_name": axis_names[0] if row == rows - 1 else "",
                "y_name": "" if column else y_name,
                "method": True,
            }
            panels.append(Panel(row, column, **entry | labelled))
    of_unit = "" if unit == "1" else f" ({unit})"
    bars = (
        ("spread", f"standard deviation, error{of_unit}"),
        ("field", f"{label}{of_unit}"),
    )
    return draw_panels(panels, shape, extent, bars)


def _moments(draws: np.ndarray, truth: np.ndarray | None) -> FieldMoments:
    mean = draws.mean(0)
    return FieldMoments(mean, draws.std(0, ddof=1), None if truth is None else np.abs(mean - truth))


def _spread_colours(moments: Mapping[str, FieldMoments]) -> dict[str, Any]:
    """Colour map and range of standard deviations and errors; those of the reference set the scale
    where there is one, so that a method far off does not flatten the others.
    """
    judged = [moments["reference"]] if "reference" in moments else list(moments.values())
    widths = [of.spread for of in judged] + [of.error for of in judged if of.error is not None]
    return {
        "cmap": SPREAD_COLOURS,
        "vmin": 0.0,
        "vmax": float(np.quantile(np.stack(widths), 0.995)),
    }


def _field_entries(fields: Mapping[str, np.ndarray], colours: dict) -> list[dict[str, Any]]:
    """Panels of fields on their common scale, by title; their place is still open."""
    return [
        {"title": title, "values": values, "colours": colours, "scale": "field"}
        for title, values in fields.items()
    ]


def _moment_entries(
    moments: FieldMoments, field_colours: dict, spread_colours: dict
) -> list[dict[str, Any]]:
    """Panels of the mean, the standard deviation and the error."""
    spreads = {"Standard deviation": moments.spread}
    if moments.error is not None:
        spreads["|Mean - truth|"] = moments.error
    return _field_entries({"Conditional mean": moments.mean}, field_colours) + [
        {"title": title, "values": values, "colours": spread_colours, "scale": "spread"}
        for title, values in spreads.items()
    ]


def _data_entry(
    data: ArrayLike, title: str, axis_names: tuple[str, str], shape: tuple[int, int]
) -> dict[str, Any]:
    """The panel of the data, on a scale of its own; on the grid of the field it shares its axes."""
    observed = np.squeeze(np.asarray(data, dtype=float))
    if observed.ndim != 2:
        raise ValueError(
            f"`data` must be a two-dimensional array to be drawn, and has shape {np.shape(data)}"
        )
    entry = {"title": title, "values": observed, "colours": colours_of_fields([observed])}
    if observed.shape == shape:
        return entry
    return entry | {"on_grid": False, "x_name": axis_names[0], "y_name": axis_names[1]}


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
