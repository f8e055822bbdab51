"""The figure of one posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["posterior_figure"]

MOST_MARGINALS = 9
DRAWS = 2000


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
    flat, names = draws.reshape(len(draws), -1), _names(posterior)
    if flat.shape[1] == 2:
        from pflow.figures.posterior import posterior_2d_single

        return posterior_2d_single(flat, label, x_true=truth, parameter_names=names)
    from pflow.figures.marginals import marginals

    kept = flat[:, :MOST_MARGINALS]
    shown = None if truth is None else truth.reshape(-1)[:MOST_MARGINALS]
    return marginals({label: kept}, parameter_names=names[: kept.shape[1]], x_true=shown)


def _names(posterior: Any) -> list[str]:
    x = posterior["posterior"]["x"]
    dims = x.dims[2:]
    if len(dims) == 1 and dims[0] in x.coords:
        return [str(name) for name in x[dims[0]].values]
    return [f"x{i + 1}" for i in range(int(np.prod(x.shape[2:])))]


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
