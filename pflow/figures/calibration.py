"""Calibration of amortised flows: the distribution of the rank of the truth, with a simultaneous
band.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from pflow.figures.palette import INK, MUTED
from pflow.figures.style import new_figure, style

__all__ = ["RankCurve", "rank_curves"]

HIGHLIGHTS = {
    "log_q": ("joint density log q", "#009E73"),
    "tarp": ("distance to random points (TARP)", "#CC79A7"),
}
UNKNOWN = "#0072B2"


class RankCurve(NamedTuple):
    """The distribution function of one quantity's ranks, as (pairs) shares below the points `at`,
    and its simultaneous band.
    """

    at: np.ndarray
    empirical: np.ndarray
    low: np.ndarray
    high: np.ndarray


def rank_curves(flows: Mapping[str, Mapping[str, RankCurve]], *, level: float = 0.05) -> Figure:
    """Distribution function of the ranks minus that of uniform ranks, one panel a flow, one line a
    quantity.

    What one should see: every line inside the grey band, where all lines of a calibrated flow stay
    with 95 % probability each. Above zero on the left and below on the right: the flow is too
    narrow, the truth too often in its tails; the other way round: too wide. All above, or all
    below: biased.

    Arguments:
        flows: for each flow its curves, by the name of the quantity; `log_q` and `tarp` are
            highlighted.
        level: of the band, for the legend.
    """
    with style():
        columns = max(1, min(3, len(flows)))
        rows = max(1, -(-len(flows) // columns))
        figure = new_figure(max(7.2, 4.2 * columns), 3.4 * rows + 0.4)
        handles: dict[str, Artist] = {}
        everything = [
            abs(v)
            for curves in flows.values()
            for c in curves.values()
            for v in (c.empirical - c.at, c.high - c.at)
        ]
        top = 1.15 * max([float(v.max()) for v in everything], default=0.1)
        for place, (name, curves) in enumerate(flows.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            for index, (quantity, curve) in enumerate(curves.items()):
                if index == 0:
                    band = axes.fill_between(
                        curve.at, curve.low - curve.at, curve.high - curve.at, color="#e3e3e3", lw=0
                    )
                    handles[f"{100 * (1 - level):.0f} % of calibrated flows"] = band
                    axes.axhline(0, color=MUTED, lw=1)
                label, colour = HIGHLIGHTS.get(quantity, ("parameters", UNKNOWN))
                highlighted = quantity in HIGHLIGHTS
                (line,) = axes.plot(
                    curve.at,
                    curve.empirical - curve.at,
                    color=colour,
                    lw=2.0 if highlighted else 1.1,
                    alpha=1.0 if highlighted else 0.75,
                )
                handles.setdefault(label, line)
            axes.set(
                title=f"Flow: {name}",
                xlabel="rank of the truth among draws, as a fraction",
                xlim=(0, 1),
                ylim=(-top, top),
            )
            if place % columns == 1 or columns == 1:
                axes.set_ylabel("ECDF \N{MINUS SIGN} uniform", color=INK)
            axes.locator_params(nbins=5)
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=2 if columns < 3 else 4,
        )
    return figure
