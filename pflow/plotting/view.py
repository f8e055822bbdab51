"""One posterior as its figures show it: physical values, with names and units, from the store
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pflow.errors import PflowError

if TYPE_CHECKING:
    from xarray import DataArray, Dataset, DataTree

    Groups = Mapping[str, Dataset]

__all__ = ["Grid", "PosteriorView", "view_of"]


@dataclass(frozen=True)
class Grid:
    """Where the parameters lie, if they are the values of a field on a grid.

    Attributes:
        shape: (height, width).
        extent: (left, right, bottom, top).
        length_unit: of the extent.
        label: what the field is.
        colours: name of its colour map; None for the default.
    """

    shape: tuple[int, int]
    extent: tuple[float, float, float, float]
    length_unit: str
    label: str
    colours: str | None

    @property
    def axis_names(self) -> tuple[str, str]:
        """Of the horizontal and the vertical axis, with units."""
        return f"lateral ({self.length_unit})", f"depth ({self.length_unit})"

    @property
    def spacing(self) -> tuple[float, float]:
        """Distances of neighbouring points, vertical and horizontal."""
        (height, width), (left, right, bottom, top) = self.shape, self.extent
        return abs(top - bottom) / height, abs(right - left) / width


@dataclass(frozen=True)
class PosteriorView:
    """Draws and data, as arrays.

    Attributes:
        draws: of the posterior, all chains together, (draws, parameters).
        prior: draws of the prior, (draws, parameters); None where the store has none.
        x_true: the true values, (parameters,), where they are known.
        names: of the parameters.
        unit: of the parameters, "1" for pure numbers.
        grid: None unless the parameters are the values of a field.
        observed: the data, (*data).
        predicted: data of the draws with noise, (draws, *data); None where no operator is known.
        data_unit: of the data.
        data_axes: names of the horizontal and the vertical axis of two-dimensional data.
    """

    draws: np.ndarray
    prior: np.ndarray | None
    x_true: np.ndarray | None
    names: tuple[str, ...]
    unit: str
    grid: Grid | None
    observed: np.ndarray
    predicted: np.ndarray | None
    data_unit: str
    data_axes: tuple[str, str]


def view_of(tree: DataTree) -> PosteriorView:
    """The arrays of a posterior store: `physical` where the store has it, x otherwise.

    Raises:
        PflowError: fewer than two draws are finite.
    """
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    name = "physical" if "physical" in groups["posterior"] else "x"
    x = groups["posterior"][name]
    draws = _rows(x)
    finite = np.isfinite(draws).all(1)
    if finite.sum() < 2:
        raise PflowError(
            f"the posterior has {int(finite.sum())} finite draws of {len(draws)}, and its figures"
            " need two: read verdict_reasons in metrics.json"
        )
    y = groups["observed_data"]["y"]
    axes = tree.attrs.get("data_axes", ("datum", "datum"))
    return PosteriorView(
        draws[finite],
        _prior(groups, name),
        _truth(groups, name),
        _names(x, draws.shape[1]),
        x.attrs.get("units", "1"),
        _grid(tree.attrs, x, draws.shape[1]),
        y.values,
        _predicted(groups, finite),
        y.attrs.get("units", "1"),
        (str(axes[0]), str(axes[1])),
    )


def _rows(values: DataArray) -> np.ndarray:
    """(chain, draw, ...) as (draws, parameters)."""
    chains, draws = values.shape[:2]
    return np.asarray(values.values, dtype=np.float64).reshape(chains * draws, -1)


def _prior(groups: Groups, name: str) -> np.ndarray | None:
    if "prior" not in groups or name not in groups["prior"]:
        return None
    draws = _rows(groups["prior"][name])
    draws = draws[np.isfinite(draws).all(1)]
    return draws if len(draws) > 1 else None


def _truth(groups: Groups, name: str) -> np.ndarray | None:
    true = f"{name}_true"
    if "constant_data" not in groups or true not in groups["constant_data"]:
        return None
    return np.asarray(groups["constant_data"][true].values, dtype=np.float64).reshape(-1)


def _names(x: DataArray, count: int) -> tuple[str, ...]:
    """Labels of a vector, or indices: of an array, one for each axis."""
    axes = x.dims[2:]
    if len(axes) == 1 and axes[0] in x.coords and x.coords[axes[0]].dtype.kind not in "iu":
        return tuple(str(label) for label in x.coords[axes[0]].values)
    indices = np.stack(np.unravel_index(np.arange(count), x.shape[2:] or (1,)), axis=1)
    return tuple(f"{x.name}[{','.join(map(str, index))}]" for index in indices)


def _grid(attributes: Mapping[Any, Any], x: DataArray, count: int) -> Grid | None:
    shape = attributes.get("field_shape")
    if shape is None and x.ndim == 5 and x.shape[2] == 1:  # an image with one channel
        shape = x.shape[3:]
    if shape is None or int(np.prod(shape)) != count:
        return None
    extent, unit = attributes.get("field_extent", ()), attributes.get("field_unit", "pixel")
    left, right, bottom, top = map(float, extent or (0.0, shape[1], shape[0], 0.0))
    return Grid(
        (int(shape[0]), int(shape[1])),
        (left, right, bottom, top),
        unit,
        attributes.get("field_label", str(x.name)),
        attributes.get("field_colours"),
    )


def _predicted(groups: Groups, finite: np.ndarray) -> np.ndarray | None:
    if "posterior_predictive" not in groups:
        return None
    y = groups["posterior_predictive"]["y"]
    predicted = y.values.reshape(-1, *y.shape[2:])[finite]
    predicted = predicted[np.isfinite(predicted).reshape(len(predicted), -1).all(1)]
    return predicted if len(predicted) > 1 else None
