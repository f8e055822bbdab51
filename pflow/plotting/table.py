"""The table of intervals of one posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pflow.diagnostics.each_parameter import intervals
from pflow.plotting.view import PosteriorView

__all__ = ["interval_rows"]


def interval_rows(view: PosteriorView, shown: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """One row for each parameter, see `pflow.diagnostics.each_parameter.intervals`.

    Arguments:
        view: the posterior.
        shown: indices of the parameters; by default all of them.
    """
    places = list(range(len(view.names)) if shown is None else shown)
    return intervals(
        view.draws[:, places],
        [view.names[i] for i in places],
        unit=view.unit,
        prior=None if view.prior is None else view.prior[:, places],
        x_true=None if view.x_true is None else view.x_true[places],
    )
