"""The figure of one posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["posterior_figure"]

MOST_MARGINALS = 9


def posterior_figure(posterior: Any, draws: np.ndarray, label: str) -> Figure:
    """Maps of a field, draws in a plane, or marginals.

    Arguments:
        posterior: a posterior store.
        draws: equally weighted draws of its parameters, (draws, *parameters).
        label: what to call the posterior.
    """
    truth = posterior["constant_data"]["x_true"].values if "constant_data" in posterior else None
    if "field_shape" in posterior.attrs:
        return _fields(posterior, draws, truth, label)
    flat = draws.reshape(len(draws), -1)
    names = _names(posterior, flat.shape[1])
    if flat.shape[1] == 2:
        from pflow.figures.posterior import posterior_2d_single

        return posterior_2d_single(flat, label, x_true=truth, parameter_names=names)
    from pflow.figures.marginals import marginals

    kept = flat[:, :MOST_MARGINALS]
    shown = None if truth is None else truth.reshape(-1)[:MOST_MARGINALS]
    return marginals({label: kept}, parameter_names=names[: kept.shape[1]], x_true=shown)


def _names(posterior: Any, count: int) -> list[str]:
    """The labels of the parameters, or x1, x2, ... where there are others than coordinates."""
    x = posterior["posterior"]["x"]
    labels = x.coords[x.dims[-1]].values if x.ndim == 3 and x.dims[-1] in x.coords else []
    names = [str(label) for label in labels]
    return names if len(names) == count else [f"x{i + 1}" for i in range(count)]


def _fields(posterior: Any, draws: np.ndarray, truth: Any, label: str) -> Figure:
    from pflow.figures.fields import posterior_fields

    about, shape = posterior.attrs, tuple(posterior.attrs["field_shape"])
    return posterior_fields(
        {label: draws.reshape(-1, *shape)},
        x_true=None if truth is None else truth.reshape(shape),
        extent=tuple(about["field_extent"]),
        axis_names=(f"lateral ({about['field_unit']})", f"depth ({about['field_unit']})"),
        label=about["field_label"],
        unit=posterior["posterior"]["x"].attrs.get("units", "1"),
        colours=about.get("field_colours"),
    )
