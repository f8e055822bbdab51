r"""Bilinear finite elements for :math:`-\nabla \cdot (k \nabla u) = f` on the unit square, u = 0 on
its edge.

The square is divided into n x n square elements, each with a constant k. Element e has the corners
P_e u and, whatever its size, the stiffness k_e S, so that

.. math:: A(k)\, u = b, \qquad A(k) = \sum_e k_e P_e^\top S P_e

over the inner nodes, where A is symmetric and positive definite. In the order row by row its band
has n + 1 diagonals, of which five are not zero, and Cholesky factors fill the band.

Arrays of elements are (batch, n, n), those of nodes (batch, n + 1, n + 1), edge included; element
(i, j) has its corners at the nodes (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1), and node
(i, j) stands at (j / n, i / n). All is float64 on the CPU.

Reference:
    | Elman, Silvester, Wathen, Finite Elements and Fast Iterative Solvers, chapter 1,
    https://doi.org/10.1093/acprof:oso/9780199678792.001.0001
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["applied", "corners", "energies", "factorised", "load", "solved", "stiffness_band"]

# S, for corners in the order (0, 0), (0, 1), (1, 0), (1, 1)
LOCAL = (
    torch.tensor(
        [[4, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]], dtype=torch.float64
    )
    / 6
)


def corners(u: Float[Tensor, "batch n1 n1"]) -> Float[Tensor, "batch n n 4"]:
    """The values at the corners of each element, P_e u."""
    return torch.stack([u[:, :-1, :-1], u[:, :-1, 1:], u[:, 1:, :-1], u[:, 1:, 1:]], -1)


def energies(
    u: Float[Tensor, "batch n1 n1"], v: Float[Tensor, "batch n1 n1"]
) -> Float[Tensor, "batch n n"]:
    r"""The integral of :math:`\nabla u \cdot \nabla v` over each element: the derivative of u^T A v
    with respect to k.
    """
    return ((corners(u) @ LOCAL) * corners(v)).sum(-1)


def applied(
    k: Float[Tensor, "batch n n"], u: Float[Tensor, "batch n1 n1"]
) -> Float[Tensor, "batch n1 n1"]:
    """A(k) u at the inner nodes, 0 on the edge."""
    return _gathered(k[..., None] * (corners(u) @ LOCAL))


def load(f: Float[Tensor, "n n"]) -> Float[Tensor, "1 n1 n1"]:
    """b of the right-hand side f, given in the middle of each element (the midpoint rule, of second
    order), at the inner nodes, 0 on the edge.
    """
    return _gathered((f / (4 * len(f) ** 2))[None, :, :, None].expand(1, -1, -1, 4))


def _gathered(at_corners: Float[Tensor, "batch n n 4"]) -> Float[Tensor, "batch n1 n1"]:
    """The sum over the elements around each inner node, 0 on the edge."""
    sums = torch.nn.functional.pad(torch.zeros_like(at_corners[..., 0]), (0, 1, 0, 1))
    # Of the element before a node in both directions the node is the last corner, and so on.
    sums[:, 1:-1, 1:-1] = (
        at_corners[:, 1:, 1:, 0]
        + at_corners[:, 1:, :-1, 1]
        + at_corners[:, :-1, 1:, 2]
        + at_corners[:, :-1, :-1, 3]
    )
    return sums


def stiffness_band(k: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch inner n1"]:
    """The lower band of A(k), [:, j, d] = A[j + d, j]: LAPACK's storage, transposed."""
    batch, n, _ = k.shape
    before, beside = k[:, :-1, :-1], k[:, :-1, 1:]  # the four elements around each inner node
    below, after = k[:, 1:, :-1], k[:, 1:, 1:]
    band = k.new_zeros(batch, n - 1, n - 1, n + 1)
    band[..., 0] = (before + beside + below + after) * LOCAL[0, 0]
    # With the next node of the row, and of the row below those straight below and to both sides;
    # `+=`, because the diagonals of very small meshes coincide.
    band[:, :, :-1, 1] += (beside + after)[:, :, :-1] * LOCAL[0, 1]
    band[:, :-1, :, n - 1] += (below + after)[:, :-1] * LOCAL[0, 2]
    band[:, :-1, :-1, n] += after[:, :-1, :-1] * LOCAL[0, 3]
    band[:, :-1, 1:, n - 2] += below[:, :-1, 1:] * LOCAL[0, 3]
    return band.reshape(batch, (n - 1) ** 2, n + 1)


def factorised(band: Float[Tensor, "batch inner n1"]) -> Float[Tensor, "batch inner n1"]:
    """Cholesky factors of the matrices of `stiffness_band`, in their place; NaN for a matrix that
    is not positive definite in float64.
    """
    from scipy.linalg.lapack import dpbtrf

    for matrix in band.numpy():
        _, failed = dpbtrf(matrix.T, lower=1, overwrite_ab=1)
        if failed:
            matrix[:] = torch.nan
    return band


def solved(
    factors: Float[Tensor, "batch inner n1"], b: Float[Tensor, "#batch n1 n1"]
) -> Float[Tensor, "batch n1 n1"]:
    """u with A u = b, given the factors of A; 0 on the edge."""
    from scipy.linalg.lapack import dpbtrs

    b = b.expand(len(factors), *b.shape[1:])
    u = torch.zeros_like(b, memory_format=torch.contiguous_format)
    for factor, right, left in zip(factors.numpy(), b.numpy(), u.numpy(), strict=True):
        inner = right[1:-1, 1:-1]
        left[1:-1, 1:-1] = dpbtrs(factor.T, inner.reshape(-1), lower=1)[0].reshape(inner.shape)
    return u
