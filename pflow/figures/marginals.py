"""Posterior marginals of each parameter: curves for a few parameters, means and standard deviations
for many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from pflow.figures.palette import (
    INK,
    MUTED,
    line_style,
    method_colour,
    method_label,
)
from pflow.figures.style import new_figure, style

__all__ = ["marginals", "moments_against_reference"]

PANELS = 9  # more parameters than this are drawn as means and standard deviations
BINS = 40


def marginals(
    posteriors: Mapping[str, ArrayLike],
    reference: ArrayLike | None = None,
    *,
    parameter_names: Sequence[str] | None = None,
    x_true: ArrayLike | None = None,
    reference_name: str = "exact",
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Histograms of each parameter by each method over the reference's, in grey, one panel a
    parameter.

    What one should see: each coloured outline follows the grey shape. Shifted means bias, narrower
    means overconfidence, wider means that information was left unused; a missing hump is a lost
    mode. The vertical line is the true value, which should lie within the bulk, not necessarily at
    the peak. With more than nine parameters this is `moments_against_reference`, which then needs
    the reference.

    Arguments:
        posteriors: draws of each method, (..., parameters).
        reference: draws of the reference, (..., parameters).
        parameter_names: axis labels, with units where there are any; by default x1, x2, ...
        x_true: true values, (parameters,).
        reference_name: what the legend calls the reference.
        names: all methods of the experiment, which fix the colours; by default those of
            `posteriors`.
        labels: what to call methods, where that is not their name.
    """
    names = list(posteriors) if names is None else names
    draws, exact = as_draws(posteriors, reference)
    count = next(iter(draws.values())).shape[1]
    if count > PANELS and exact is not None:
        return moments_against_reference(
            posteriors, exact, reference_name=reference_name, names=names, labels=labels
        )
    parameters = (
        [f"x{i + 1}" for i in range(count)] if parameter_names is None else list(parameter_names)
    )
    if len(parameters) != count:
        raise ValueError(
            f"`parameter_names` must name each of the {count} parameters; it names"
            f" {len(parameters)}"
        )
    truth = None if x_true is None else np.asarray(x_true, dtype=float).reshape(-1)

    with style():
        columns = min(count, 3)
        rows = -(-count // columns)
        figure = new_figure(max(5.5, 3.7 * columns), 2.9 * rows + 0.5)
        for index, parameter in enumerate(parameters):
            axes = figure.add_subplot(rows, columns, index + 1)
            low, high = interval(
                [values[:, index] for values in draws.values()],
                None if exact is None else exact[:, index],
            )
            edges = np.linspace(low, high, BINS + 1)
            if exact is not None:
                axes.stairs(
                    density(exact[:, index], edges), edges, fill=True, color="#d4d4d4", zorder=0.5
                )
            for name, values in draws.items():
                style_of_line = line_style(name, names)
                axes.stairs(density(values[:, index], edges), edges, lw=1.6, **style_of_line)
            if truth is not None:
                axes.axvline(truth[index], color=INK, lw=1.3, ls="--")
            axes.set(
                xlabel=parameter, ylabel="density" if index % columns == 0 else "", xlim=(low, high)
            )
            axes.tick_params(axis="y", labelleft=False, left=False)
            axes.grid(visible=False)
            axes.locator_params(axis="x", nbins=5)
        entries: list[tuple[Artist, str]] = [
            (line(name, names), method_label(name, labels)) for name in draws
        ]
        if exact is not None:
            entries.insert(0, (Patch(color="#d4d4d4"), reference_name))
        if truth is not None:
            entries.append((Line2D([], [], color=INK, lw=1.3, ls="--"), "true value"))
        figure.legend(
            *zip(*entries, strict=True), loc="outside lower center", ncols=min(4, len(entries))
        )
    return figure


def moments_against_reference(
    posteriors: Mapping[str, ArrayLike],
    reference: ArrayLike,
    *,
    unit: str = "",
    reference_name: str = "exact",
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Posterior mean and standard deviation of every parameter, by each method, against the
    reference's.

    What one should see: all points on the diagonal. Means off the diagonal are bias; standard
    deviations below it are overconfidence, above it are information left unused. Points scatter by
    the draws' sampling error alone: about a standard deviation divided by the square root of the
    number of draws.

    Arguments:
        posteriors: draws of each method, (..., parameters).
        reference: draws of the reference, (..., parameters).
        unit: of the parameters, for the axis labels.
        reference_name: what to call the reference.
        names: all methods of the experiment, which fix the colours; by default those of
            `posteriors`.
        labels: what to call methods, where that is not their name.
    """
    names = list(posteriors) if names is None else names
    draws, exact = as_draws(posteriors, reference)
    suffix = f" ({unit})" if unit else ""
    with style():
        figure = new_figure(8.4, 4.6 + 0.4 * (len(names) > 3))  # the legend has a second row
        moments: dict[str, Callable[..., np.ndarray]] = {
            "mean": np.mean,
            "standard deviation": np.std,
        }
        for place, (title, moment) in enumerate(moments.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            truth = moment(exact, axis=0)
            values = {name: moment(cloud, axis=0) for name, cloud in draws.items()}
            everything = np.concatenate([truth, *values.values()])
            low, high = everything.min(), everything.max()
            room = 0.06 * (high - low) + 1e-12
            axes.axline((low, low), slope=1, color=MUTED, lw=1.2, ls="--", zorder=0.8)
            for name, points in values.items():
                axes.plot(
                    truth,
                    points,
                    "o",
                    ms=4.5,
                    alpha=0.75,
                    mec="white",
                    mew=0.4,
                    color=method_colour(name, names),
                )
            axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal")
            axes.set(xlabel=f"{title}, {reference_name}{suffix}", ylabel=f"{title}, method{suffix}")
            axes.set_title(
                f"Posterior {title}" + (f" ({len(truth)} parameters)" if place == 1 else "")
            )
            axes.locator_params(nbins=5)
        entries = [
            (
                Line2D([], [], ls="", marker="o", color=method_colour(name, names)),
                method_label(name, labels),
            )
            for name in draws
        ]
        entries.append((Line2D([], [], color=MUTED, lw=1.2, ls="--"), "equal"))
        figure.legend(
            *zip(*entries, strict=True), loc="outside lower center", ncols=min(4, len(entries))
        )
    return figure


def as_draws(
    posteriors: Mapping[str, ArrayLike], reference: ArrayLike | None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    if not posteriors:
        raise ValueError("`posteriors` must hold the draws of at least one method")
    draws = {name: flat(values) for name, values in posteriors.items()}
    exact = None if reference is None else flat(reference)
    counts = {name: values.shape[1] for name, values in draws.items()} | (
        {} if exact is None else {"reference": exact.shape[1]}
    )
    if len(set(counts.values())) > 1:
        raise ValueError(
            "all draws must have the same number of parameters in their last dimension, not"
            f" {counts}"
        )
    return draws, exact


def flat(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values.reshape(-1, values.shape[-1])


def interval(clouds: Sequence[np.ndarray], reference: np.ndarray | None) -> tuple[float, float]:
    """The range of a panel: all but the outermost draws, at most twice the reference's extent."""
    low, high = np.quantile(np.concatenate(clouds), [0.0005, 0.9995])
    if reference is None:
        return low, high
    inner_low, inner_high = np.quantile(reference, [0.0005, 0.9995])
    slack = 0.5 * (inner_high - inner_low)
    return min(max(low, inner_low - slack), inner_low), max(
        min(high, inner_high + slack), inner_high
    )


def density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Histogram as a density of all the draws: those outside the edges count too, so that curves
    are comparable.
    """
    return np.histogram(values, edges)[0] / (len(values) * np.diff(edges))


def line(name: str, names: Sequence[str]) -> Line2D:
    return Line2D([], [], **line_style(name, names))
