r"""Travel times along straight rays: tomography as a sparse matrix.

The model is the logarithm x of the velocity relative to a background v0, :math:`v = v_0 e^x`,
constant in each cell of a grid. The data are delays: travel times less those of the background.
With the lengths :math:`L_{rc}` of ray r in the cells c,

.. math:: y_r = \frac{1}{v_0} \sum_c L_{rc} (e^{-x_c} - 1)

is linear in the slowness 1 / v, and nearly so in x. Real rays bend towards high velocity: see
`pflow.operators.eikonal`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.constant import Constant

__all__ = ["MILLISECONDS", "StraightRays", "centres", "require_inside", "segment_lengths"]

MILLISECONDS = 1000.0


class StraightRays(Operator):
    """Delays along the straight lines from each source to each receiver, in milliseconds.

    Arguments:
        grid: cells down and across, (rows, columns).
        spacing: side of a cell in metres.
        sources, receivers: positions (depth, distance) in metres from the upper left corner of the
            grid, (n, 2).
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
        starts = sources[:, None].expand(-1, len(receivers), -1).reshape(-1, 2)
        ends = receivers[None].expand(len(sources), -1, -1).reshape(-1, 2)
        matrix = segment_lengths(grid, spacing, starts, ends) * (MILLISECONDS / velocity)
        of_rays, of_cells = (matrix.sum(axis).to_dense() for axis in (1, 0))
        self._matrix, self._of_rays = Constant(matrix), Constant(of_rays)
        self._of_cells = Constant(torch.where(of_cells == 0, 1.0, of_cells))

    @property
    def matrix(self) -> Float[Tensor, "rays cells"]:
        """Milliseconds that each ray spends in each cell of the background: sparse, in float64,
        over flattened models and data.
        """
        return self._matrix.value

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch sources receivers"]:
        return torch.sparse.mm(self._matrix.like(x), torch.expm1(-x).flatten(1).T).T.reshape(
            -1, *self.data_shape
        )

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch sources receivers"]
    ) -> Float[Tensor, "batch *model"]:
        return -torch.exp(-x) * self._transposed(v.flatten(1)).reshape(x.shape)

    def summary(self, y: Float[Tensor, "batch sources receivers"]) -> Float[Tensor, "batch *model"]:
        """Delays smeared back along their rays: of each cell, the average relative slowness of the
        rays through it, weighted by their time in the cell, with the sign of x; 0 where no ray
        passes.
        """
        relative = y.flatten(1) / self._of_rays.like(y)
        return -(self._transposed(relative) / self._of_cells.like(y)).reshape(-1, *self.model_shape)

    def _transposed(self, v: Float[Tensor, "batch rays"]) -> Float[Tensor, "batch cells"]:
        return torch.sparse.mm(self._matrix.like(v).T, v.T).T


def segment_lengths(
    grid: tuple[int, int],
    spacing: float,
    starts: Float[Tensor, "rays 2"],
    ends: Float[Tensor, "rays 2"],
) -> Float[Tensor, "rays cells"]:
    """The length of each straight line in each cell of the grid, as a sparse matrix in float64.

    A line is cut where it crosses a line of the grid; each piece lies in the cell of its midpoint.
    (Siddon 1985, https://doi.org/10.1118/1.595715.)

    Raises:
        PflowError: if a line leaves the grid.
    """
    starts, ends = starts.double(), ends.double()
    require_inside(grid, spacing, starts)
    require_inside(grid, spacing, ends)
    direction = ends - starts
    cuts = [
        torch.zeros(len(starts), 1, dtype=torch.float64),
        torch.ones(len(starts), 1, dtype=torch.float64),
    ]
    for axis, count in enumerate(grid):
        lines = torch.arange(1, count, dtype=torch.float64) * spacing
        where = (lines - starts[:, axis, None]) / direction[
            :, axis, None
        ]  # infinite for a line along the grid
        cuts.append(where.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1))
    along = torch.cat(cuts, 1).sort(1).values
    length = along.diff(dim=1) * direction.norm(dim=1, keepdim=True)
    middle = starts[:, None] + (along[:, 1:] + along[:, :-1])[..., None] / 2 * direction[:, None]
    row, column = (
        (middle / spacing).long()[..., axis].clamp(max=count - 1) for axis, count in enumerate(grid)
    )
    ray, piece = (length > 0).nonzero(as_tuple=True)
    cells = row[ray, piece] * grid[1] + column[ray, piece]
    return torch.sparse_coo_tensor(
        torch.stack([ray, cells]),
        length[ray, piece],
        (len(starts), math.prod(grid)),
        check_invariants=True,
    ).coalesce()


def centres(grid: tuple[int, int], spacing: float) -> Float[Tensor, "cells 2"]:
    """(depth, distance) in metres of the centre of each cell, row by row, in float64."""
    return (
        torch.cartesian_prod(*(torch.arange(count, dtype=torch.float64) + 0.5 for count in grid))
        * spacing
    )


def require_inside(
    grid: tuple[int, int], spacing: float, points: Float[Tensor, "points 2"]
) -> None:
    """Refuse positions outside the grid.

    Raises:
        PflowError: with the size of the grid.
    """
    size = torch.tensor(grid, dtype=torch.float64) * spacing
    if ((points < 0) | (points > size)).any():
        raise PflowError(
            f"sources and receivers must lie in the grid of {size[0]:g} x {size[1]:g} metres, and"
            " one does not: move it, or enlarge the grid"
        )
