"""The grid of the eikonal equation: upwind differences, receivers between nodes, and the nodes
around each source, where straight rays replace the scheme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.rays import centres, segment_lengths

if TYPE_CHECKING:
    from numpy import ndarray

__all__ = ["interpolation_matrix", "surroundings_of_sources", "upwind_differences"]

# Spacings around a source within which straight rays are used, and at the neighbours of the nodes
# there
NEAR = 1.5


def upwind_differences(times: ndarray, axis: int) -> tuple[ndarray, ndarray]:
    """(T - a)_+ along one axis of (batch, k, rows, columns), and how far a lies from its node in
    the flattened array.
    """
    import numpy as np

    before, after = np.full_like(times, np.inf), np.full_like(times, np.inf)
    lower, upper = ([slice(None)] * axis + [part] for part in (slice(None, -1), slice(1, None)))
    before[tuple(upper)], after[tuple(lower)] = times[tuple(lower)], times[tuple(upper)]
    stride = times.shape[3] if axis == 2 else 1
    return np.maximum(times - np.minimum(before, after), 0.0), np.where(
        before <= after, -stride, stride
    )


def interpolation_matrix(
    grid: tuple[int, int], spacing: float, receivers: Float[Tensor, "receivers 2"]
) -> Float[Tensor, "receivers nodes"]:
    """Bilinear interpolation from the centres of the cells.

    Raises:
        PflowError: if a receiver is not between centres.
    """
    last = torch.tensor(grid, dtype=torch.float64) - 1
    place = receivers / spacing - 0.5
    if ((place < -1e-9) | (place > last + 1e-9)).any():
        raise PflowError(
            f"receivers must lie between the centres of the outermost cells, {spacing / 2:g} to"
            f" {(grid[0] - 0.5) * spacing:g} metres deep and {spacing / 2:g} to"
            f" {(grid[1] - 0.5) * spacing:g} metres across, and one does not: move it, or enlarge"
            " the grid"
        )
    weights = [
        (1 - (place[:, axis, None] - torch.arange(count)).abs()).clamp(min=0)
        for axis, count in enumerate(grid)
    ]
    return (weights[0][:, :, None] * weights[1][:, None, :]).flatten(1)


def surroundings_of_sources(
    grid: tuple[int, int], spacing: float, sources: Float[Tensor, "sources 2"]
) -> tuple[ndarray, ndarray, Any]:
    """For each source: the function whose contour fast marching starts from, and what it takes for
    the distance to the contour at the nodes beside; which nodes are near; and the lengths of the
    straight rays to these in each cell, as a sparse matrix.
    """
    import numpy as np
    import skfmm
    from scipy.sparse import csr_array

    nodes = centres(grid, spacing)
    phi = ((nodes - sources[:, None]).norm(dim=-1) - NEAR * spacing).numpy()
    inside = (phi < 0).reshape(-1, *grid)
    near = inside.copy()
    near[:, 1:] |= inside[:, :-1]
    near[:, :-1] |= inside[:, 1:]
    near[:, :, 1:] |= inside[:, :, :-1]
    near[:, :, :-1] |= inside[:, :, 1:]
    near = near.reshape(phi.shape)
    beside = np.stack(
        [
            np.abs(skfmm.travel_time(p.reshape(grid), np.ones(grid), dx=spacing, order=1)).ravel()
            for p in phi
        ]
    )
    source, node = near.nonzero()
    lengths = segment_lengths(
        grid, spacing, sources[torch.from_numpy(source)], nodes[torch.from_numpy(node)]
    )
    ray, cell = lengths.indices().numpy()
    flattened = (source * phi.shape[1] + node)[ray]
    matrix = csr_array(
        (lengths.values().numpy(), (flattened, cell)), shape=(phi.size, phi.shape[1])
    )
    return np.stack([phi, beside]), near, matrix
