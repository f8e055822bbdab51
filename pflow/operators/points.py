"""Values of a field on a mesh at points between its nodes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError

__all__ = ["BilinearPoints", "inner_grid"]


class BilinearPoints:
    """H: bilinear interpolation from the nodes of a square mesh, node (i, j) at (j / n, i / n).

    Arguments:
        mesh: elements along each side, n.
        points: positions (across, along) in the unit square, (points, 2).

    Raises:
        PflowError: if a point lies outside the square.
    """

    def __init__(self, mesh: int, points: Float[Tensor, "points 2"]) -> None:
        points = torch.as_tensor(points, dtype=torch.float64)
        outside = ((points < 0) | (points > 1)).any(1)
        if outside.any():
            raise PflowError(
                f"points must lie in the unit square, and {points[outside][0].tolist()} does not:"
                " move it"
            )
        place = points * mesh
        first = place.floor().clamp(max=mesh - 1)
        across, along = (place - first).T
        column, row = first.long().T
        self.nodes = (mesh + 1, mesh + 1)
        index = row * (mesh + 1) + column
        self._index = torch.stack([index, index + 1, index + mesh + 1, index + mesh + 2], 1)
        self._weight = torch.stack(
            [
                (1 - across) * (1 - along),
                across * (1 - along),
                (1 - across) * along,
                across * along,
            ],
            1,
        )

    def values(self, u: Float[Tensor, "batch nodes nodes"]) -> Float[Tensor, "batch points"]:
        """H u."""
        return (u.flatten(1)[:, self._index] * self._weight).sum(-1)

    def sources(self, v: Float[Tensor, "batch points"]) -> Float[Tensor, "batch nodes nodes"]:
        """H^T v."""
        spread = (v[:, :, None] * self._weight).flatten(1)
        nodes = v.new_zeros(len(v), self.nodes[0] * self.nodes[1])
        return nodes.index_add(1, self._index.flatten(), spread).unflatten(1, self.nodes)


def inner_grid(count: int) -> Float[Tensor, "points 2"]:
    """count x count points (across, along) at the multiples of 1 / (count + 1), those of one column
    after another.
    """
    steps = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    return torch.cartesian_prod(steps, steps)
