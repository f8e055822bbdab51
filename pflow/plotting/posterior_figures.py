"""The figures of one posterior, whatever reference there is: its parameters against the prior, or
the maps of its field, and its predictions against the data.

    from pflow.plotting.posterior_figures import plot_posterior

    figures = plot_posterior("results/rosenbrock/posteriors/y1/preconditioned/seed-0")
    figures["pairs"].savefig("pairs.png")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pflow.errors import PflowError
from pflow.figures.against_prior import marginals_against_prior
from pflow.figures.pairs import pair_plot
from pflow.figures.prediction import prediction_and_data
from pflow.plotting.chosen import drawn_parameters
from pflow.plotting.drawn import Drawn
from pflow.plotting.field_figures import field_figures
from pflow.plotting.view import PosteriorView, view_of
from pflow.settings.suggestion import did_you_mean
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import RunFolder, root_file, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import DataTree

__all__ = ["draw_posterior", "plot_one", "plot_posterior", "read_view"]

DEFAULTS = ("maps", "pairs", "marginals")


def plot_posterior(
    folder_or_tree: str | Path | DataTree, parameters: Sequence[str] | None = None
) -> dict[str, Figure]:
    """Figures of one posterior by name: `marginals` and `pairs` of up to eight parameters; `maps`,
    `draws`, `coverage` and `spectra` of a field; `prediction` against the data. Those that do not
    apply are absent.

    All draws count alike, as they are; `pflow.posterior.resample` draws by importance weights.

    Arguments:
        folder_or_tree: folder of one seed (`.../seed-0`), its `posterior.zarr`, or a tree that
            `pflow.posterior.load_posterior` has read.
        parameters: names of at most eight parameters; by default those that the data contract most.
            The parameters of a field have maps, and marginals where they are named here.

    Raises:
        PflowError: no store is there, it is damaged, or no parameter has such a name.
    """
    view = read_view(folder_or_tree)
    return {name: drawn.figure for name, drawn in draw_posterior(view, parameters).items()}


def plot_one(
    folder_or_tree: str | Path | DataTree,
    kind: str | None = None,
    parameters: Sequence[str] | None = None,
) -> Figure:
    """One of the figures of `plot_posterior`.

    Arguments:
        folder_or_tree: as for `plot_posterior`.
        kind: its name; by default the first that applies of `maps`, `pairs` and `marginals`.
        parameters: as for `plot_posterior`.

    Raises:
        PflowError: as `plot_posterior`; or this posterior has no such figure.
    """
    figures = _figures(read_view(folder_or_tree), parameters, "parameters")
    if kind is None:
        kind = next(name for name in DEFAULTS if name in figures)
    if kind not in figures:
        raise PflowError(
            f"`kind` (={kind!r}) must be a figure of this posterior:"
            f" {did_you_mean(kind, figures, 'it has ' + ', '.join(figures))}"
        )
    return figures[kind]().figure


def read_view(folder_or_tree: str | Path | DataTree) -> PosteriorView:
    """The arrays of a posterior store, named by its folder or read already.

    Raises:
        PflowError: no store is there, or it is damaged.
    """
    if not isinstance(folder_or_tree, str | Path):
        return view_of(folder_or_tree)
    folder = Path(folder_or_tree)
    for store in (whole(folder), RunFolder(folder).posterior):
        if root_file(store).is_file():
            return view_of(read_datatree(store))
    raise PflowError(
        f"{folder} must hold a posterior store: name a seed's folder, such as"
        " results/rosenbrock/posteriors/y1/preconditioned/seed-0, after `snakemake sample`"
    )


def draw_posterior(
    view: PosteriorView, parameters: Sequence[str] | None = None, where: str = "parameters"
) -> dict[str, Drawn]:
    """The same with a caption each; `where` is the setting that holds `parameters`."""
    return {name: draw() for name, draw in _figures(view, parameters, where).items()}


def _figures(
    view: PosteriorView, parameters: Sequence[str] | None, where: str
) -> dict[str, Callable[[], Drawn]]:
    """What draws each of the figures that apply."""
    figures = {} if view.grid is None else field_figures(view, view.grid)
    chosen = drawn_parameters(view, parameters, where)
    if chosen:
        figures["marginals"] = partial(_marginals, view, chosen)
    if len(chosen) > 1:
        figures["pairs"] = partial(_pairs, view, chosen)
    if view.predicted is not None:
        figures["prediction"] = partial(_prediction, view, view.predicted)
    return figures


def _marginals(view: PosteriorView, chosen: list[int]) -> Drawn:
    figure = marginals_against_prior(
        view.draws[:, chosen],
        _labels(view, chosen),
        prior=None if view.prior is None else view.prior[:, chosen],
        x_true=None if view.x_true is None else view.x_true[chosen],
    )
    against = "" if view.prior is None else " over what the prior allowed, in grey"
    return Drawn(
        figure,
        f"{_which(view, chosen)}{against}. The lines below hold 50 and 90 % of the draws, the dot"
        " is the median.",
    )


def _pairs(view: PosteriorView, chosen: list[int]) -> Drawn:
    figure = pair_plot(
        view.draws[:, chosen],
        _labels(view, chosen),
        prior=None if view.prior is None else view.prior[:, chosen],
        x_true=None if view.x_true is None else view.x_true[chosen],
    )
    return Drawn(
        figure,
        "Every pair of them: the regions hold 50 and 90 % of the draws; above the diagonal,"
        " correlations.",
    )


def _prediction(view: PosteriorView, predicted: np.ndarray) -> Drawn:
    figure = prediction_and_data(
        view.observed, predicted, unit=view.data_unit, axis_names=view.data_axes
    )
    return Drawn(
        figure,
        "What the draws predict, noise included, against what was measured. The residuals are in"
        " standard deviations of the prediction; nine of ten, or more, lie between the dashed lines"
        " if posterior, operator and noise are right.",
    )


def _which(view: PosteriorView, chosen: list[int]) -> str:
    count = len(view.names)
    if len(chosen) == count:
        return "Each parameter by itself"
    return f"{len(chosen)} of {count} parameters by themselves"


def _labels(view: PosteriorView, chosen: list[int]) -> list[str]:
    unit = "" if view.unit == "1" else f" ({view.unit})"
    return [f"{view.names[i]}{unit}" for i in chosen]
