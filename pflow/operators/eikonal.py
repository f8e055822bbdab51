r"""First arrivals: the eikonal equation, with the exact gradient of its discretisation.

The model is the logarithm x of the velocity relative to a background v0, at the centres of the
cells of a grid of spacing h; the slowness is :math:`s = e^{-x} / v_0`. The travel time T of the
first arrival from a source satisfies :math:`|\nabla T| = s`, discretised by

.. math:: (T - a)_+^2 + (T - b)_+^2 = (h s)^2, \qquad a, b = \text{the smaller neighbour in each
    direction}

(Godunov's upwind scheme, first order) and solved by fast marching. Near the source, where
wavefronts are too bent for the scheme, T is the integral of s along the straight ray, :math:`T = K
s` with a matrix K of lengths in cells.

Elsewhere a node depends on one or two nodes reached earlier. Differentiated, with :math:`D = (T -
a)_+ + (T - b)_+`,

.. math:: dT = \frac{(T - a)_+}{D} da + \frac{(T - b)_+}{D} db + \frac{h^2 s}{D} ds, \qquad
    \text{or}\quad dT = W\, dT + M\, ds

where W is strictly triangular in the order of arrival. So :math:`J^\top v = M^\top \lambda` with
:math:`(I - W)^\top \lambda = v`: one sparse triangular solve for all sources and models together,
exact to rounding.

References:
    | A fast marching level set method (Sethian, 1996), https://doi.org/10.1073/pnas.93.4.1591
    | An adjoint state method for travel-time tomography (Leung, Qian, 2006),
    https://doi.org/10.4310/CMS.2006.v4.n1.a10
    | scikit-fmm, https://scikit-fmm.readthedocs.io
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.constant import Constant
from pflow.operators.eikonal_grid import (
    interpolation_matrix,
    surroundings_of_sources,
    upwind_differences,
)
from pflow.operators.rays import MILLISECONDS, require_inside

if TYPE_CHECKING:
    from numpy import ndarray

__all__ = ["Eikonal"]

# Of all models and sources in one call of fast marching or of the triangular solve
NODES_AT_ONCE = 2**19


class _FirstArrivals(torch.autograd.Function):
    """Delays for autograd; the times of all nodes are kept for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sources: Tensor, operator: Eikonal) -> Tensor:
        times = operator.times(x, sources)
        ctx.save_for_backward(x, sources, times)
        ctx.operator = operator
        return operator.delays(times, sources).to(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        return ctx.operator.gradient(*ctx.saved_tensors, v), None, None


class Eikonal(Operator):
    """Delays of first arrivals at each receiver from each source, in milliseconds: travel times
    less those of the background.

    It computes in float64 on the CPU, and returns the dtype and device of its input.

    Arguments:
        grid: cells down and across, (rows, columns).
        spacing: side of a cell in metres, h.
        sources: positions (depth, distance) in metres from the upper left corner of the grid, (n,
            2).
        receivers: the same, not beyond the centres of the outermost cells; between centres, times
            are interpolated linearly.
        velocity: v0 in metres per second.
        model_shape: how a model arrives; by default flattened row by row, (rows * columns,).

    Raises:
        PflowError: if a position lies outside the grid.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        spacing: float,
        sources: Float[Tensor, "sources 2"],
        receivers: Float[Tensor, "receivers 2"],
        velocity: float,
        model_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_shape or (math.prod(grid),), (len(sources), len(receivers)))
        require_inside(grid, spacing, sources)
        self.grid, self.spacing, self.velocity = (grid[0], grid[1]), spacing, velocity
        self.sources = len(sources)
        self._interpolation = interpolation_matrix(self.grid, spacing, receivers.double())
        self._distance, self._near, self._lengths = surroundings_of_sources(
            self.grid, spacing, sources.double()
        )
        everywhere = torch.arange(self.sources)[None]
        homogeneous = self.times(torch.zeros(1, *self.model_shape), everywhere)
        self._background = Constant(torch.zeros(self.data_shape))
        self._background = Constant(self.delays(homogeneous, everywhere)[0])

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch sources receivers"]:
        return self.forward_sources(x, torch.arange(self.sources).expand(len(x), -1))

    def forward_sources(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k receivers"]:
        """The rows of F(x) for those sources, other ones for each model."""
        return _FirstArrivals.apply(x, sources.cpu(), self)

    def times(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k nodes"]:
        """Travel time in milliseconds to every node, in float64 on the CPU.

        Raises:
            PflowError: if a velocity is not positive and finite.
        """
        import numpy as np

        slowness = self._slowness(x).numpy()
        if not np.isfinite(slowness).all() or not (slowness > 0).all():
            raise PflowError(
                "the eikonal equation needs a finite, positive velocity everywhere, and `x`, its"
                " logarithm, is not finite or too large"
            )
        chosen = sources.numpy()
        times = np.empty((*chosen.shape, math.prod(self.grid)))
        for part in self._parts(*chosen.shape):
            times[part] = self._march(slowness[part], chosen[part])
        return torch.from_numpy(times)

    def delays(
        self, times: Float[Tensor, "batch k nodes"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k receivers"]:
        """Times at the receivers less those of the background."""
        return times @ self._interpolation.T - self._background.value[sources]

    def gradient(
        self, x: Tensor, sources: Tensor, times: Tensor, v: Float[Tensor, "batch k receivers"]
    ) -> Float[Tensor, "batch *model"]:
        """J(x)^T v, given the times at x."""
        import numpy as np

        slowness = self._slowness(x)
        arriving = (v.double().cpu() @ self._interpolation).numpy()
        by_slowness = np.empty((len(x), math.prod(self.grid)))
        for part in self._parts(*sources.shape):
            by_slowness[part] = self._pull_back(
                times.numpy()[part], slowness.numpy()[part], sources.numpy()[part], arriving[part]
            )
        return (-slowness * torch.from_numpy(by_slowness)).to(x).reshape(x.shape)

    def _slowness(self, x: Tensor) -> Float[Tensor, "batch nodes"]:
        """In milliseconds per metre."""
        return torch.exp(-x.detach().flatten(1).double().cpu()) * (MILLISECONDS / self.velocity)

    def _parts(self, batch: int, sources: int) -> list[slice]:
        step = max(1, NODES_AT_ONCE // (sources * math.prod(self.grid)))
        return [slice(first, first + step) for first in range(0, batch, step)]

    def _march(self, slowness: ndarray, sources: ndarray) -> ndarray:
        """Times (batch, k, nodes): one call of fast marching, all grids below each other with a
        masked row between.
        """
        import numpy as np
        import skfmm

        near_times = (self._lengths @ slowness.T).T.reshape(len(slowness), self.sources, -1)
        near_times = np.take_along_axis(near_times, sources[..., None], 1)
        near, (contour, beside) = (
            self._near[sources],
            (values[sources] for values in self._distance),
        )
        # A node beside the contour is given the time distance / speed: this speed makes it that of
        # the straight ray.
        given = near & (near_times > 0)
        speed = np.where(given, beside / np.where(given, near_times, 1.0), 1 / slowness[:, None])
        rows, columns = self.grid
        stacked = np.ones(
            (3, *sources.shape, rows + 1, columns)
        )  # contour function, speed, and whether a node is masked
        stacked[:, :, :, :rows] = np.stack([contour, speed, np.zeros_like(speed)]).reshape(
            3, *sources.shape, rows, columns
        )
        phi, speed, mask = stacked.reshape(3, -1, columns)
        times = skfmm.travel_time(
            np.ma.MaskedArray(phi, mask == 1), speed, dx=self.spacing, order=1
        )
        times = np.asarray(times).reshape(stacked.shape[1:])[:, :, :rows].reshape(near.shape)
        return np.where(near, near_times, times)

    def _pull_back(
        self, times: ndarray, slowness: ndarray, sources: ndarray, arriving: ndarray
    ) -> ndarray:
        """The gradient with respect to slowness, (batch, nodes), of sum(arriving * times)."""
        import numpy as np
        from scipy.sparse import csr_array
        from scipy.sparse.linalg import spsolve_triangular

        near, size = self._near[sources], times.size
        across = times.reshape(*sources.shape, *self.grid)
        steps, offsets = zip(*(upwind_differences(across, axis) for axis in (2, 3)), strict=True)
        steps = [np.where(near, 0.0, step.reshape(near.shape)) for step in steps]
        total = np.where(near, 1.0, steps[0] + steps[1])

        rank = np.empty(
            size, dtype=np.int64
        )  # place in the order of arrival, of each grid by itself
        order = (
            np.argsort(times.reshape(-1, times.shape[-1]), axis=1, kind="stable")
            + np.arange(0, size, times.shape[-1])[:, None]
        )
        rank[order.ravel()] = np.arange(size)
        rows, columns, values = [np.arange(size)], [np.arange(size)], [np.ones(size)]
        for step, offset in zip(steps, offsets, strict=True):
            used = np.flatnonzero(step)
            rows.append(rank[used + offset.ravel()[used]])
            columns.append(rank[used])
            values.append(-(step / total).ravel()[used])
        upper = csr_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(size, size),
        )
        adjoint = spsolve_triangular(
            upper, arriving.ravel()[order.ravel()], lower=False, unit_diagonal=True
        )[rank].reshape(times.shape)

        gradient = (np.where(near, 0.0, self.spacing**2 * slowness[:, None] / total) * adjoint).sum(
            1
        )
        at_sources = np.zeros((len(times), self.sources, times.shape[-1]))
        model = np.arange(len(times))[:, None]
        np.add.at(at_sources, (model, sources), np.where(near, adjoint, 0.0))
        return gradient + (self._lengths.T @ at_sources.reshape(len(times), -1).T).T
