"""Power spectra of the draws of one posterior of a field, of their mean and of the true field."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pflow.figures.curves import label_decades
from pflow.figures.one_parameter import POSTERIOR, PRIOR
from pflow.figures.palette import INK
from pflow.figures.style import new_figure, style

__all__ = ["power_spectra"]

MEAN = "#D55E00"
BAND = (0.05, 0.95)


def power_spectra(
    wavenumber: ArrayLike,
    draws: ArrayLike,
    mean: ArrayLike,
    *,
    prior: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    length_unit: str = "pixel",
    unit: str = "1",
) -> Figure:
    """Power against wavenumber: bands that hold 90 % of the draws of posterior and prior, the mean
    field and the true field.

    What one should see: the truth within the posterior's band, coarse structure on the left, fine
    on the right. The mean falls below the band where the data do not fix the draws' structure,
    which averages out: that is no error. A band above the truth on the right means draws that are
    too rough, one below it draws that are too smooth. Where it meets the prior's, the data said
    nothing of structure of that size.

    Arguments:
        wavenumber: in cycles per unit of length, (rings,).
        draws: power of each draw of the posterior, (draws, rings).
        mean: power of their mean field, (rings,).
        prior: power of each draw of the prior, (draws, rings).
        truth: power of the true field, (rings,).
        length_unit: of the axes of the field.
        unit: of the field; "1" for a pure number.
    """
    k = np.asarray(wavenumber, dtype=float)
    bands = {} if prior is None else {"prior, 90 % of its draws": (prior, PRIOR, 0.7)}
    bands["posterior, 90 % of its draws"] = (draws, POSTERIOR, 0.35)
    lines = {"posterior mean": (mean, MEAN, "--")}
    if truth is not None:
        lines["true field"] = (truth, INK, "-")
    with style():
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        for name, (power, colour, opacity) in bands.items():
            low, high = np.quantile(np.asarray(power, dtype=float), BAND, axis=0)
            axes.fill_between(k, low, high, color=colour, alpha=opacity, lw=0, label=name)
        for name, (power, colour, kind) in lines.items():
            axes.plot(k, np.asarray(power, dtype=float), kind, color=colour, label=name)
        axes.set_yscale("log")
        label_decades(axes)
        axes.set_xlim(0, None)
        axes.set_xlabel(f"wavenumber (cycles per {length_unit})")
        units = [_squared(one) for one in (unit, length_unit) if one != "1"]
        axes.set_ylabel(f"power ({' '.join(units)})")
        axes.legend()
    return figure


def _squared(unit: str) -> str:
    return f"{unit if unit.isalpha() else f'({unit})'}\N{SUPERSCRIPT TWO}"
