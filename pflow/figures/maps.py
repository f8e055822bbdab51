"""Maps of one posterior of a two-dimensional field."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.field_panels import Panel, colours_of_fields, draw_panels
from pflow.figures.fields import SPREAD_COLOURS

__all__ = ["posterior_maps"]

COLUMNS = 3
CONTRACTION = {"cmap": "cividis", "vmin": 0.0, "vmax": 1.0}


def posterior_maps(
    draws: ArrayLike,
    *,
    contraction: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
    extent: tuple[float, float, float, float] | None = None,
    axis_names: tuple[str, str] = ("lateral (pixel)", "depth (pixel)"),
    label: str = "field",
    unit: str = "1",
    colours: str | None = None,
) -> Figure:
    """Mean, standard deviation, contraction against the prior, two draws, and the true field where
    it is known.

    What one should see: contraction near 1 where the data fix the field and near 0 where the prior
    speaks alone, such as away from all measurements. Draws differ where the standard deviation is
    large, and are rougher than the mean, which averages what is unknown.

    Arguments:
        draws: of the posterior, (draws, height, width), two or more.
        contraction: 1 - std / prior std, (height, width); values below 0 are drawn as 0.
        x_true: the true field, (height, width).
        extent: (left, right, bottom, top) in the units of `axis_names`; by default pixels.
        axis_names: of the horizontal and the vertical axis, with units.
        label: what the field is, for its colour bar.
        unit: of the field; "1" for a pure number.
        colours: name of matplotlib's colour map of the field; by default grey around zero.
    """
    x = np.asarray(draws, dtype=float)
    shape = (x.shape[1], x.shape[2])
    mean, spread = x.mean(0), x.std(0, ddof=1)
    fields = {"Mean": mean, "Draw 1": x[0], "Draw 2": x[1]}
    if x_true is not None:
        fields["True field"] = np.asarray(x_true, dtype=float).reshape(shape)
    field_colours = colours_of_fields([*fields.values()]) | ({"cmap": colours} if colours else {})
    spread_colours = {
        "cmap": SPREAD_COLOURS,
        "vmin": 0.0,
        "vmax": float(np.quantile(spread, 0.995)) or 1.0,
    }
    shown = [("Mean", fields.pop("Mean"), field_colours, "field")]
    shown.append(("Standard deviation", spread, spread_colours, "spread"))
    of_unit = "" if unit == "1" else f" ({unit})"
    bars = [("field", f"{label}{of_unit}"), ("spread", f"std{of_unit}")]
    if contraction is not None:
        narrowed = np.asarray(contraction, dtype=float).reshape(shape)
        shown.append(("Contraction", np.maximum(narrowed, 0.0), CONTRACTION, "contraction"))
        bars.append(("contraction", "contraction"))
    shown += [(title, values, field_colours, "field") for title, values in fields.items()]
    columns = COLUMNS if len(shown) > 4 else 2
    rows = -(-len(shown) // columns)
    panels = [
        Panel(
            place // columns,
            place % columns,
            title,
            values,
            look,
            scale,
            x_name=axis_names[0] if place // columns == rows - 1 else "",
            y_name="" if place % columns else axis_names[1],
        )
        for place, (title, values, look, scale) in enumerate(shown)
    ]
    return draw_panels(panels, shape, extent, bars)
