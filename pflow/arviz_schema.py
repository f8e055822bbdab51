"""Draws as ArviZ expects them: datasets with dims (chain, draw, ...), named coordinates and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

__all__ = ["draws_dataset", "point_dataset"]


def draws_dataset(variables: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> xr.Dataset:
    """Variables of one chain.

    Arguments:
        variables: arrays whose first axis is the draw, (draw, ...).
        names: labels of the entries of a vector variable, its coordinate.
    """
    data = {}
    for variable, values in variables.items():
        dims = ["chain", "draw", *_dims(variable, values.ndim - 1)]
        data[variable] = (dims, values[None])
    draws = len(next(iter(variables.values())))
    return xr.Dataset(data, coords={"chain": [0], "draw": np.arange(draws), **_coordinates(variables, 1, names)})


def point_dataset(variables: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> xr.Dataset:
    """Variables without draws, such as the observation."""
    data = {variable: (_dims(variable, values.ndim), values) for variable, values in variables.items()}
    return xr.Dataset(data, coords=_coordinates(variables, 0, names))


def _dims(variable: str, ndim: int) -> list[str]:
    base = variable.split("_")[0]  # x_true shares the axes of x
    return [f"{base}_dim"] if ndim == 1 else [f"{base}_dim_{i}" for i in range(ndim)]


def _coordinates(variables: Mapping[str, np.ndarray], skip: int, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    found = {}
    for variable, values in variables.items():
        shape = values.shape[skip:]
        for dim, size in zip(_dims(variable, len(shape)), shape, strict=True):
            label_it = names is not None and dim == "x_dim" and len(names) == size
            found[dim] = np.asarray(names, dtype=object) if label_it else np.arange(size)
    return found
