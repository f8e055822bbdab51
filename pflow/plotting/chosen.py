"""Which parameters have marginals, a pair plot and a row in the table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pflow.diagnostics.each_parameter import contraction
from pflow.errors import PflowError
from pflow.plotting.view import PosteriorView
from pflow.settings.suggestion import did_you_mean

__all__ = ["MOST", "chosen_parameters", "drawn_parameters"]

MOST = 8  # more panels of a pair plot cannot be read


def drawn_parameters(view: PosteriorView, names: Sequence[str] | None, where: str) -> list[int]:
    """Indices of the parameters with marginals: those of `chosen_parameters`; none of a field,
    which has maps, unless they are named.
    """
    return chosen_parameters(view, names, where) if names or view.grid is None else []


def chosen_parameters(view: PosteriorView, names: Sequence[str] | None, where: str) -> list[int]:
    """Indices of the parameters: those named, in that order; otherwise the eight that the data
    contract most, in the order of the model (the first eight where no prior is known).

    Arguments:
        view: the posterior.
        names: of parameters, at most eight; None or empty to choose.
        where: what the user wrote them in, for messages.

    Raises:
        PflowError: more than eight names, the same one twice, or one that no parameter has.
    """
    if not names:
        if view.prior is None:
            return list(range(min(MOST, len(view.names))))
        narrowed = np.nan_to_num(contraction(view.draws, view.prior), nan=-np.inf)
        return sorted(np.argsort(-narrowed, kind="stable")[:MOST].tolist())
    if len(names) > MOST:
        raise PflowError(
            f"`{where}` must name at most {MOST} parameters, and names {len(names)}: leave some out"
        )
    places = {name: i for i, name in enumerate(view.names)}
    for name in names:
        if name not in places:
            few = ", ".join(view.names[:MOST]) + (", ..." if len(view.names) > MOST else "")
            raise PflowError(
                f"`{where}` (={name!r}) must name parameters of the posterior:"
                f" {did_you_mean(name, places, f'they are {few}')}"
            )
    if len(set(names)) < len(names):
        raise PflowError(f"`{where}` must name each parameter once, and is {', '.join(names)}")
    return [places[name] for name in names]
