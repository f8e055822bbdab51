"""Draws as ArviZ expects them: datasets with dims (chain, draw, ...), named coordinates and units.

ArviZ reads the stores as they are: `xarray.open_datatree(path, engine="zarr")`.
The groups and variables of a posterior are described in docs/store.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pflow.storage.dimensions import axis_base, dimension_names

__all__ = ["chains_dataset", "draws_dataset", "point_dataset"]

# Variable: (description, unit). Log densities are in nats; "1" is the unit of a pure number.
MEANINGS = {
    "x": ("unknown model", None),
    "x_true": ("true model", None),
    "x_gaussian": ("posterior mean under a stationary Gaussian prior", None),
    "x_gaussian_std": ("posterior standard deviation under a stationary Gaussian prior", None),
    "x_wiener": ("Wiener filter of the back-projected data", None),
    "physical": (
        "what x stands for, where the unknowns are coordinates of bounded parameters",
        None,
    ),
    "physical_true": ("what x_true stands for", None),
    "y": ("data", None),
    "summary": ("what the flow sees of the data", None),
    "lp": ("log of the unnormalised posterior density, log p(y given x) + log p(x)", "nats"),
    "log_q": ("log density of the flow", "nats"),
    "log_weight": ("log importance weight, lp - log_q", "nats"),
    "log_likelihood": ("log p(y given x)", "nats"),
    "chi_square": ("squared residual of the data over the noise variance, per datum", "1"),
    "score_error": (
        (
            "squared difference of the scores of flow and posterior per unknown, in the latent"
            " metric of the flow"
        ),
        "1",
    ),
}
LABELLED = ("x_dim", "physical_dim")
AXES = {"chain": "independent runs (seeds) or chains", "draw": "draw"}


def draws_dataset(
    variables: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Variables of one chain.

    Arguments:
        variables: arrays whose first axis is the draw, (draw, ...).
        names: labels of the entries of a vector x, and of as many physical parameters.
        units: unit of x, of physical and of y, where they have one.
    """
    return chains_dataset({name: values[None] for name, values in variables.items()}, names, units)


def chains_dataset(
    variables: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Variables of several chains, whose first axes are (chain, draw); otherwise as
    `draws_dataset`.
    """
    data = {
        name: (
            ["chain", "draw", *dimension_names(name, values.ndim - 2)],
            values,
            _attributes(name, units),
        )
        for name, values in variables.items()
    }
    chains, draws = next(iter(variables.values())).shape[:2]
    axes = {"chain": np.arange(chains), "draw": np.arange(draws)}
    dataset = xr.Dataset(data, coords={**axes, **_coordinates(variables, 2, names)})
    for axis, meaning in AXES.items():
        dataset[axis].attrs["long_name"] = meaning
    return dataset


def point_dataset(
    variables: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Variables without draws, such as the observation."""
    data = {
        name: (dimension_names(name, values.ndim), values, _attributes(name, units))
        for name, values in variables.items()
    }
    return xr.Dataset(data, coords=_coordinates(variables, 0, names))


def _attributes(variable: str, units: Mapping[str, str] | None) -> dict[str, str]:
    meaning, unit = MEANINGS.get(variable, (variable.replace("_", " "), "1"))
    return {"long_name": meaning, "units": unit or (units or {}).get(axis_base(variable), "1")}


def _coordinates(
    variables: Mapping[str, np.ndarray], skip: int, names: Sequence[str] | None
) -> dict[str, np.ndarray]:
    coordinates = {}
    for variable, values in variables.items():
        shape = values.shape[skip:]
        for dim, size in zip(dimension_names(variable, len(shape)), shape, strict=True):
            label_it = names is not None and dim in LABELLED and len(names) == size
            coordinates[dim] = np.asarray(names, dtype=object) if label_it else np.arange(size)
    return coordinates
