"""Posterior draws in two dimensions, over the regions that hold 50, 90 and 99 % of the exact
posterior: the first figure of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from pflow.figures.highest_density import highest_density_regions, points
from pflow.figures.palette import EXACT, INK, MUTED, method_colour, method_label
from pflow.figures.plane import (
    arrange,
    legend,
    limits,
    mark,
    marked,
    panel,
    posterior_panel,
    posterior_title,
    remark,
    scatter,
)
from pflow.figures.style import new_figure, style

__all__ = ["posterior_2d"]


def posterior_2d(
    posteriors: Mapping[str, ArrayLike],
    *,
    prior: ArrayLike,
    low_fidelity_data: ArrayLike | None = None,
    high_fidelity_data: ArrayLike | None = None,
    exact: ArrayLike | None = None,
    exact_log_density: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
    y_observed: ArrayLike | None = None,
    parameter_names: Sequence[str] = ("x1", "x2"),
    data_names: Sequence[str] = ("y1", "y2"),
    remarks: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Prior and data, and the posterior draws of each method.

    What one should see: draws of a good method fill the grey regions of the exact posterior evenly
    and nothing else. An amortised flow, trained on low-fidelity data, sits beside them or is too
    wide; fine-tuning moves it in. Where the low- and high-fidelity data clouds differ, so do the
    operators. All posterior panels share their axes, and the dashed frame in the prior's panel is
    the part they show; the data panels share theirs.

    Arguments:
        posteriors: draws of each method, (..., 2), in the order of the panels.
        prior: draws of the prior, (..., 2).
        low_fidelity_data: samples of low-fidelity data, (..., 2).
        high_fidelity_data: samples of high-fidelity data, (..., 2).
        exact: draws of the exact posterior, (..., 2): the regions.
        exact_log_density: log p(x | y) at them, (...).
        x_true: the parameters to mark, (2,).
        y_observed: the data to mark, (2,).
        parameter_names: axis labels, with units where there are any.
        data_names: the same for the data.
        remarks: a few words for the corner of a method's panel, such as "KL 0.01 nats".
        names: all methods of the experiment, which fix the colours; by default those of
            `posteriors`.
        labels: what to call methods, where that is not their name.
    """
    names = list(posteriors) if names is None else names
    draws = {name: points(values, name) for name, values in posteriors.items()}
    regions = highest_density_regions(exact, exact_log_density)
    if exact is not None:
        draws["exact"] = points(exact, "exact")
    window = limits([*draws.values(), *marked(x_true)], around=draws.get("exact"))
    data = {
        title: points(values, title)
        for title, values in (
            ("Low-fidelity data", low_fidelity_data),
            ("High-fidelity data", high_fidelity_data),
        )
        if values is not None
    }
    data_window = limits([*data.values(), *marked(y_observed)]) if data else None

    columns, rows, first_of_second_row = arrange(1 + len(data), len(draws))
    with style():
        figure = new_figure(2.75 * columns, 2.75 * rows + 0.45)
        cells = iter(range(1, columns * rows + 1))

        axes = panel(figure, rows, columns, next(cells), "Prior samples", parameter_names)
        scatter(axes, points(prior, "prior"), MUTED)
        mark(axes, x_true, "P")
        (left, right), (bottom, top) = window
        frame = Rectangle(
            (left, bottom),
            right - left,
            top - bottom,
            fill=False,
            color=INK,
            lw=1.1,
            ls=(0, (4, 3)),
        )
        axes.add_patch(frame)
        for title, values in data.items():
            axes = panel(figure, rows, columns, next(cells), title, data_names, data_window)
            scatter(axes, values, MUTED)
            mark(axes, y_observed, "D")

        for place, (name, values) in enumerate(draws.items(), start=first_of_second_row):
            axes = panel(
                figure,
                rows,
                columns,
                place,
                posterior_title(method_label(name, labels)),
                parameter_names,
                window,
            )
            posterior_panel(
                axes,
                values,
                regions,
                x_true,
                EXACT if name == "exact" else method_colour(name, names),
            )
            remark(axes, values, window, (remarks or {}).get(name))
        legend(figure, regions, x_true, y_observed)
    return figure
