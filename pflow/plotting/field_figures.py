"""The figures of one posterior of a field: maps, draws beside those of the prior, where the truth
lies, and power spectra.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pflow.diagnostics.coverage import inside_intervals
from pflow.diagnostics.each_parameter import contraction
from pflow.diagnostics.power_spectrum import radial_power
from pflow.figures.draws_strip import draws_strip
from pflow.figures.maps import posterior_maps
from pflow.figures.pixel_coverage import pixel_coverage
from pflow.figures.spectra import power_spectra
from pflow.plotting.drawn import Drawn
from pflow.plotting.view import Grid, PosteriorView

__all__ = ["field_figures"]

FEWEST_DRAWS = 20  # whose intervals tell something
FEWEST_POINTS = 8  # along each axis, for four wavenumbers
OF_SPECTRA = 200  # draws at most: enough for a band


def field_figures(view: PosteriorView, grid: Grid) -> dict[str, Callable[[], Drawn]]:
    """What draws each of the figures that apply: `coverage` needs the true field, `spectra` a grid
    of 8 x 8 points or more.
    """
    figures: dict[str, Callable[[], Drawn]] = {
        "maps": partial(_maps, view, grid),
        "draws": partial(_draws, view, grid),
    }
    if view.x_true is not None and len(view.draws) >= FEWEST_DRAWS:
        figures["coverage"] = partial(_coverage, view, grid, view.x_true)
    if min(grid.shape) >= FEWEST_POINTS:
        figures["spectra"] = partial(_spectra, view, grid)
    return figures


def _maps(view: PosteriorView, grid: Grid) -> Drawn:
    narrowed = None if view.prior is None else contraction(view.draws, view.prior)
    figure = posterior_maps(
        _fields(view.draws, grid), contraction=narrowed, x_true=view.x_true, **_look(view, grid)
    )
    meaning = "; contraction: 1 where the data fix the field, 0 where only the prior speaks"
    return Drawn(
        figure,
        "The field by place: mean, standard deviation and two draws of the posterior"
        f"{'' if narrowed is None else meaning}.",
    )


def _draws(view: PosteriorView, grid: Grid) -> Drawn:
    prior = None if view.prior is None else _fields(view.prior, grid)
    figure = draws_strip(_fields(view.draws, grid), prior=prior, **_look(view, grid))
    before = "" if prior is None else " under draws of the prior, on one colour scale"
    return Drawn(
        figure,
        f"Draws of the posterior{before}: what they have in common is known. The last row is what"
        " changes from draw to draw.",
    )


def _coverage(view: PosteriorView, grid: Grid, truth: np.ndarray) -> Drawn:
    spread = view.draws.std(0, ddof=1)
    deviation = np.full(len(truth), np.nan)
    np.divide(truth - view.draws.mean(0), spread, out=deviation, where=spread > 0)
    inside = inside_intervals(view.draws, truth)
    of_draws = inside_intervals(view.draws, view.draws)
    figure = pixel_coverage(
        deviation.reshape(grid.shape),
        {percent: mask.reshape(grid.shape) for percent, mask in inside.items()},
        expected={
            percent: tuple(np.quantile(mask.mean(1), [0.05, 0.95]))
            for percent, mask in of_draws.items()
        },
        extent=grid.extent,
        axis_names=grid.axis_names,
    )
    return Drawn(
        figure,
        "Where the true field lies in the posterior: its distance from the mean in standard"
        " deviations, the narrowest central interval that holds it, and the share of pixels in each"
        " interval. Dark lines: the nominal shares; grey: where a draw of the posterior in place of"
        " the truth ends nine times of ten, for neighbouring pixels err together.",
    )


def _spectra(view: PosteriorView, grid: Grid) -> Drawn:
    def power(values: np.ndarray) -> np.ndarray:
        return radial_power(_fields(values[:OF_SPECTRA], grid), grid.spacing)[1]

    wavenumber, of_mean = radial_power(_fields(view.draws.mean(0), grid), grid.spacing)
    figure = power_spectra(
        wavenumber,
        power(view.draws),
        of_mean[0],
        prior=None if view.prior is None else power(view.prior),
        truth=None if view.x_true is None else power(view.x_true[None])[0],
        length_unit=grid.length_unit,
        unit=view.unit,
    )
    return Drawn(
        figure,
        "Power of the field by wavenumber, averaged over directions: coarse structure on the left,"
        " fine on the right. The mean lies below its draws where the data leave structure open,"
        " which averages out; draws should have the truth's power.",
    )


def _fields(values: np.ndarray, grid: Grid) -> np.ndarray:
    return values.reshape(-1, *grid.shape)


def _look(view: PosteriorView, grid: Grid) -> dict[str, Any]:
    """Axes and colours, as the figures of fields take them."""
    return {
        "extent": grid.extent,
        "axis_names": grid.axis_names,
        "label": grid.label,
        "unit": view.unit,
        "colours": grid.colours,
    }
