"""Marginals of one posterior against those of the prior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.one_parameter import WIDE, draw_legend, draw_parameter, window, wrapped
from pflow.figures.style import new_figure, style

__all__ = ["marginals_against_prior"]

COLUMNS = 4


def marginals_against_prior(
    draws: ArrayLike,
    parameter_names: Sequence[str],
    *,
    prior: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
) -> Figure:
    """Histogram of each parameter over the prior's, with its central 50 and 90 % intervals.

    What one should see: a posterior narrower than the grey prior where the data said something, and
    one of the prior's shape where they did not. A true value, where it is known, lies outside of
    its 90 % interval in one panel of ten. Where the prior is much wider, the panel shows the part
    of it around the posterior.

    Arguments:
        draws: of the posterior, (draws, parameters).
        parameter_names: with units where there are any.
        prior: draws of the prior, (draws, parameters).
        x_true: the true values, (parameters,).
    """
    x = np.asarray(draws, dtype=float)
    before = None if prior is None else np.asarray(prior, dtype=float)
    truth = None if x_true is None else np.asarray(x_true, dtype=float)
    count = x.shape[1]
    columns = min(COLUMNS, -(-count // -(-count // COLUMNS)))  # rows of equal length
    rows = -(-count // columns)
    with style():
        width = max(5.8, 2.9 * columns)
        figure = new_figure(width, 2.3 * rows + (0.5 if width > WIDE else 0.8))
        for i, name in enumerate(wrapped(parameter_names, 28)):
            axes = figure.add_subplot(rows, columns, i + 1)
            of_prior = None if before is None else before[:, i]
            true_value = None if truth is None else float(truth[i])
            limits = window(x[:, i], of_prior, true_value)
            draw_parameter(axes, x[:, i], limits, of_prior, true_value)
            axes.set(xlabel=name, ylabel="" if i % columns else "density")
            axes.locator_params(axis="x", nbins=5)
        draw_legend(figure, before is not None, truth is not None)
    return figure
