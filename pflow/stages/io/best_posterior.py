"""The posterior that the report shows of an observation: which one, its figures and its table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pflow.config.figures import FiguresSettings
from pflow.plotting.chosen import drawn_parameters
from pflow.plotting.posterior_figures import draw_posterior
from pflow.plotting.table import interval_rows
from pflow.plotting.view import view_of
from pflow.report.ranking import best_method
from pflow.report.trust import verdict_of
from pflow.stages.io.observation_results import ObservationResults

__all__ = ["draw_best_posterior"]

ROWS = 20  # of the table, at most


def draw_best_posterior(
    keep: Callable[..., None],
    results: ObservationResults,
    settings: FiguresSettings,
    suffix: str,
    others: Collection[str] = (),
) -> dict[str, Any]:
    """Draw the best method's posterior at one observation.

    Arguments:
        keep: (name, figure, caption) -> None, writes a figure.
        results: the results of the stages at the observation.
        settings: which parameters.
        suffix: of the names of the figures, where there are several observations.
        others: methods under another prior than the experiment's.

    Returns:
        `method`, `verdict`, the names of its `figures`, the rows of its `intervals` (of up to 20
        parameters, otherwise of those that are drawn) and the number of its `parameters`.

    Raises:
        PflowError: no parameter has a name that the settings hold.
    """
    method = best_method(results.metrics, others)
    view = view_of(results.posteriors[method])
    where = "figures.parameters"
    names = []
    for name, drawn in draw_posterior(view, settings.parameters, where).items():
        names.append(f"best_{name}{suffix}")
        keep(names[-1], drawn.figure, drawn.caption)
    few = view.grid is None and len(view.names) <= ROWS
    shown = None if few else drawn_parameters(view, settings.parameters, where)
    verdict = verdict_of(results.metrics[method])
    return {
        "method": method,
        "verdict": "" if verdict is None else verdict["text"],
        "figures": names,
        "intervals": interval_rows(view, shown),
        "parameters": len(view.names),
    }
