"""Posterior draws in two dimensions: the seed paper's first figure.

Grey regions behind the draws hold 50, 90 and 99 % of the exact posterior. The region of highest
density that holds a mass m is {x : log p(x | y) >= c} with c the (1 - m) quantile of log p over
exact draws, so draws with their log density are all that is needed: log p between and just around
them is a cubic spline with a quadratic trend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from pflow.figures.palette import EXACT, INK, MUTED, method_colour, method_label
from pflow.figures.style import new_figure, style

__all__ = ["posterior_2d", "posterior_2d_single"]

MASSES = (0.99, 0.9, 0.5)  # from the outside in
REGION_COLOURS = ("#f0f0f0", "#dedede", "#c6c6c6")
DRAWS_SHOWN = 1500  # more points hide each other


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
    """What was known before (prior, data) and what each method makes of the observation (posterior
    draws).

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


def posterior_2d_single(
    draws: ArrayLike,
    name: str,
    *,
    exact: ArrayLike | None = None,
    exact_log_density: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
    parameter_names: Sequence[str] = ("x1", "x2"),
    remark_text: str | None = None,
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Posterior draws of one method over the regions of the exact posterior: one panel of
    `posterior_2d`.

    What one should see: the draws fill the grey regions evenly, and about one in a hundred lies
    outside.
    """
    values = points(draws, name)
    regions = highest_density_regions(exact, exact_log_density)
    reference = None if exact is None else points(exact, "exact")
    window = limits([values, *marked(x_true), *marked(reference)], around=reference)
    with style():
        figure = new_figure(4.6, 4.9)
        axes = panel(
            figure, 1, 1, 1, posterior_title(method_label(name, labels)), parameter_names, window
        )
        posterior_panel(axes, values, regions, x_true, method_colour(name, names or [name]))
        remark(axes, values, window, remark_text)
        legend(figure, regions, x_true, None, columns=2)
    return figure


def points(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim < 2 or values.shape[-1] != 2:
        raise ValueError(
            f"draws of '{name}' must have shape (..., 2) for a figure in two dimensions, not"
            f" {values.shape}"
        )
    return values.reshape(-1, 2)


def marked(point: ArrayLike | None) -> list[np.ndarray]:
    return [] if point is None else [np.asarray(point, dtype=float).reshape(-1, 2)]


def limits(
    clouds: Sequence[np.ndarray], around: np.ndarray | None = None
) -> tuple[tuple[float, float], ...]:
    """Axis limits that hold all but the outermost 0.2 % of every cloud; a stray draw must not
    shrink the picture.

    With `around`, no more than 1.6 times that cloud's extent is shown (single points always):
    a method that is far off must not shrink it either. The panel's corner says how many of its
    draws are outside.
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
    return np.quantile(cloud, [tail, 1 - tail], axis=0)


def arrange(above: int, below: int) -> tuple[int, int, int]:
    """Columns, rows, and the cell of the first posterior, with few empty cells; one row if all
    fit.
    """
    if above + below <= 4:
        return above + below, 1, above + 1
    columns = min((3, 4), key=lambda count: -below % count + count - above)
    return columns, 1 + -(-below // columns), columns + 1


def highest_density_regions(exact: ArrayLike | None, log_density: ArrayLike | None) -> tuple | None:
    """Two grids, the log density on them, and the levels that bound the `MASSES`; None without a
    density.
    """
    if exact is None or log_density is None:
        return None
    draws, log_density = points(exact, "exact"), np.asarray(log_density, dtype=float).reshape(-1)
    if len(draws) != len(log_density):
        raise ValueError(
            f"`exact_log_density` must hold one value a draw: {len(log_density)} for {len(draws)}"
            " draws"
        )
    levels = np.quantile(log_density, [1 - mass for mass in MASSES])
    order = np.argsort(log_density)
    few = np.union1d(
        order[:200], order[:: max(1, len(order) // 500)]
    )  # the outermost draws bound the spline
    _, distinct = np.unique(draws[few], axis=0, return_index=True)
    few = few[distinct]
    low, scale = draws.min(axis=0), np.ptp(draws, axis=0)
    grid = np.linspace(-0.15, 1.15, 160)
    cells = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    density, distance = cubic_spline((draws[few] - low) / scale, log_density[few], cells)
    density[distance > 0.1] = -np.inf
    density = np.maximum(
        density, levels[0] - 5.0
    )  # far from all draws there is less than in any region
    return (
        low[0] + scale[0] * grid,
        low[1] + scale[1] * grid,
        density.reshape(len(grid), -1),
        levels,
    )


def cubic_spline(
    points: np.ndarray, values: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """s(x) = sum_i w_i |x - x_i|^3 + a quadratic, with s(x_i) = values_i; also the distance to the
    nearest x_i.

    The weights w are orthogonal to all quadratics (Wendland, Scattered Data Approximation, 2004,
    section 8.5).
    """

    def distances(x: np.ndarray) -> np.ndarray:
        return np.hypot(x[:, None, 0] - points[:, 0], x[:, None, 1] - points[:, 1])

    def quadratics(x: np.ndarray) -> np.ndarray:
        first, second = x.T
        return np.stack(
            [np.ones_like(first), first, second, first**2, first * second, second**2], axis=1
        )

    trend = quadratics(points)
    system = np.block([[distances(points) ** 3, trend], [trend.T, np.zeros((6, 6))]])
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros(6)]))
    to_points = distances(at)
    return to_points**3 @ weights[:-6] + quadratics(at) @ weights[-6:], to_points.min(axis=1)


def panel(
    figure: Figure,
    rows: int,
    columns: int,
    place: int,
    title: str,
    names: Sequence[str],
    window: tuple | None = None,
) -> Axes:
    axes = figure.add_subplot(rows, columns, place)
    axes.set(title=title, xlabel=names[0], ylabel=names[1])
    axes.locator_params(nbins=5)
    if window is not None:
        axes.set(xlim=window[0], ylim=window[1])
    return axes


def posterior_title(label: str) -> str:
    return (
        f"Posterior: {label}" if len(label) < 20 else label
    )  # wider titles would meet their neighbours


def posterior_panel(
    axes: Axes, draws: np.ndarray, regions: tuple | None, x_true: ArrayLike | None, colour: str
) -> None:
    if regions is not None:
        *grid, levels = regions
        axes.contourf(*grid, levels=[*levels, np.inf], colors=REGION_COLOURS, zorder=0.6)
        axes.contour(
            *grid, levels=levels, colors="#8c8c8c", linewidths=0.7, linestyles="solid", zorder=0.7
        )
    scatter(axes, draws, colour)
    mark(axes, x_true, "P")


def scatter(axes: Axes, draws: np.ndarray, colour: str) -> None:
    shown = draws[:: max(1, -(-len(draws) // DRAWS_SHOWN))]
    axes.scatter(*shown.T, s=5, color=colour, alpha=0.4, linewidths=0, rasterized=True)


def mark(axes: Axes, point: ArrayLike | None, marker: str) -> None:
    for x, y in (at[0] for at in marked(point)):
        axes.plot(x, y, marker, ms=9, color=INK, mec="white", mew=1.2, zorder=5)


def remark(axes: Axes, draws: np.ndarray, window: tuple, text: str | None) -> None:
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
        place = {"transform": axes.transAxes, "ha": "left", "va": "top", "linespacing": 1.35}
        axes.text(0.03, 0.97, "\n".join(lines), fontsize=9.5, bbox=box, zorder=6, **place)


def legend(figure: Figure, regions: tuple | None, x_true, y_observed, columns: int = 5) -> None:
    entries = []
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
            ncols=columns,
            columnspacing=1.4,
        )
