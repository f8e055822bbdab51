"""Several draws of one posterior of a field side by side, under as many of the prior."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.field_panels import Panel, colours_of_fields, draw_panels

__all__ = ["draws_strip"]

COLUMNS = 4
DIFFERENCES = "PuOr"  # colour map


def draws_strip(
    draws: ArrayLike,
    *,
    prior: ArrayLike | None = None,
    extent: tuple[float, float, float, float] | None = None,
    axis_names: tuple[str, str] = ("lateral (pixel)", "depth (pixel)"),
    label: str = "field",
    unit: str = "1",
    colours: str | None = None,
) -> Figure:
    """Rows of draws of the prior and of the posterior, on one colour scale, and of the posterior's
    draws less their mean.

    What one should see: draws of the prior that look like what was known before, of which those of
    the posterior are a selection. What all draws of a row have in common is known, and what changes
    from one to the next is not; the last row shows it alone.

    Arguments:
        draws: of the posterior, (draws, height, width), two or more.
        prior: draws of the prior, (draws, height, width).
        extent: (left, right, bottom, top) in the units of `axis_names`; by default pixels.
        axis_names: of the horizontal and the vertical axis, with units.
        label: what the field is, for its colour bar.
        unit: of the field; "1" for a pure number.
        colours: name of matplotlib's colour map of the field; by default grey around zero.
    """
    x = np.asarray(draws, dtype=float)
    rows = {} if prior is None else {"prior": np.asarray(prior, dtype=float)[:COLUMNS]}
    rows["posterior"] = x[:COLUMNS]
    shared = colours_of_fields([*np.concatenate([*rows.values()])])
    field_colours = shared | ({"cmap": colours} if colours else {})
    looks = dict.fromkeys(rows, (field_colours, "field"))
    differs = "posterior \N{MINUS SIGN} mean"
    rows[differs] = x[:COLUMNS] - x.mean(0)
    looks[differs] = (_around_zero(rows[differs]), "difference")
    panels = [
        Panel(
            row,
            column,
            f"Draw {column + 1}" if row == 0 else "",
            values,
            *looks[name],
            x_name=axis_names[0] if row == len(rows) - 1 else "",
            y_name="" if column else name,
            method=True,
        )
        for row, (name, fields) in enumerate(rows.items())
        for column, values in enumerate(fields)
    ]
    of_unit = "" if unit == "1" else f" ({unit})"
    bars = (("field", f"{label}{of_unit}"), ("difference", f"difference from the mean{of_unit}"))
    return draw_panels(panels, (x.shape[1], x.shape[2]), extent, bars)


def _around_zero(fields: np.ndarray) -> dict[str, Any]:
    bound = float(np.quantile(np.abs(fields), 0.995)) or 1.0
    return {"cmap": DIFFERENCES, "vmin": -bound, "vmax": bound}
