r"""Diffusion in a heterogeneous medium: the state at some points, of the logarithm x of the
coefficient.

.. math:: -\nabla \cdot (e^x \nabla u) = f \quad \text{in } (0, 1)^2, \qquad u = 0 \text{ on the
    edge}

Pressures of groundwater in a rock of permeability e^x, temperatures, or the deflection of a
membrane of stiffness e^x. With the elements' coefficients :math:`k = e^{M x}` and the values
:math:`y = H u` at points,

.. math::
    A(k)\, u = b, \qquad J(x)^\top v = -M^\top (k\, \nabla_k (\lambda^\top A u)), \quad A
    \lambda = H^\top v

.. math:: J(x)\, d = H w, \qquad A w = -A(k\, M d)\, u

so that F(x) with its gradient costs one Cholesky factorisation and two pairs of triangular solves.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.elements import (
    applied,
    energies,
    factorised,
    load,
    solved,
    stiffness_band,
)
from pflow.operators.points import BilinearPoints

__all__ = ["Diffusion"]

LARGEST_LOG_CONTRAST = 23.0  # of coefficients, 1e10: beyond, float64 leaves too few digits of u
LARGEST_LOG_COEFFICIENT = 200.0


class _StatesAtPoints(torch.autograd.Function):
    """F(x) for autograd; the state and the Cholesky factors are kept for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Diffusion) -> Tensor:
        k, factors, u = operator.state(x)
        ctx.save_for_backward(x, k, factors, u)
        ctx.operator = operator
        return operator.points.values(u).to(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        x, k, factors, u = ctx.saved_tensors
        return ctx.operator.gradient(k, factors, u, v).to(x), None


class Diffusion(Operator):
    """u at points, for the log-coefficient x on side x side cells, flattened row by row: the first
    row lies along the edge from (0, 0) to (1, 0).

    It computes in float64 on the CPU, and returns the dtype and device of its input. A coefficient
    whose contrast exceeds 1e10 is not valid.

    Arguments:
        side: cells of x along each side.
        mesh: elements along each side, at least 4. Where they are smaller than the cells, a cell
            has several; where they are larger, an element has the geometric mean of its cells.
        points: positions (across, along) in the unit square, (n, 2); values are interpolated
            bilinearly.
        source: f, a number, or its values in the middle of each element, (mesh, mesh).

    Raises:
        PflowError: if neither of `side` and `mesh` is a multiple of the other, or a point lies
            outside the square.
    """

    def __init__(
        self,
        side: int,
        mesh: int,
        points: Float[Tensor, "points 2"],
        source: float | Float[Tensor, "mesh mesh"] = 1.0,
    ) -> None:
        super().__init__((side**2,), (len(points),))
        if mesh < 4 or (mesh % side and side % mesh):
            raise PflowError(
                f"`mesh` (={mesh}) must be at least 4, and a multiple of the {side} cells along a"
                " side or a divisor of them: correct it"
            )
        self.side, self.mesh, self.points = side, mesh, BilinearPoints(mesh, points)
        f = torch.as_tensor(source, dtype=torch.float64).expand(mesh, mesh)
        self._load = load(f)

    def valid(self, x: Float[Tensor, "batch cells"]) -> Bool[Tensor, " batch"]:
        """Whether the system can be solved in float64."""
        lowest, highest = x.amin(1), x.amax(1)
        return (highest - lowest <= LARGEST_LOG_CONTRAST) & (
            torch.maximum(highest, -lowest) <= LARGEST_LOG_COEFFICIENT
        )

    def forward(self, x: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch points"]:
        return self.points.values(self.state(x)[2]).to(x)

    def vjp(
        self, x: Float[Tensor, "batch cells"], v: Float[Tensor, "batch points"]
    ) -> Float[Tensor, "batch cells"]:
        return self.gradient(*self.state(x), v).to(x)

    def jvp(
        self, x: Float[Tensor, "batch cells"], d: Float[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch points"]:
        """The derivative of F at x in the direction d, J(x) d."""
        k, factors, u = self.state(x)
        change = k * self._on_elements(d.detach().double().cpu())
        return self.points.values(solved(factors, -applied(change, u))).to(x)

    def _with_gradient(self, x: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch points"]:
        wanted = torch.is_grad_enabled() and x.requires_grad
        return _StatesAtPoints.apply(x, self) if wanted else self.forward(x)

    def state(
        self, x: Float[Tensor, "batch cells"]
    ) -> tuple[
        Float[Tensor, "batch mesh mesh"],
        Float[Tensor, "batch inner band"],
        Float[Tensor, "batch mesh1 mesh1"],
    ]:
        """The coefficients k of the elements, the Cholesky factors of A(k), and u."""
        k = torch.exp(self._on_elements(x.detach().double().cpu()))
        factors = factorised(stiffness_band(k))
        return k, factors, solved(factors, self._load)

    def gradient(
        self, k: Tensor, factors: Tensor, u: Tensor, v: Float[Tensor, "batch points"]
    ) -> Float[Tensor, "batch cells"]:
        """J(x)^T v in float64, given the state at x."""
        adjoint = solved(factors, self.points.sources(v.detach().double().cpu()))
        return self._on_cells(-k * energies(adjoint, u))

    def _on_elements(self, x: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch mesh mesh"]:
        """M x: the value of an element's cell, or the mean over its cells."""
        x = x.reshape(len(x), self.side, self.side)
        if self.mesh >= self.side:
            return _repeated(x, self.mesh // self.side)
        return _block_sums(x, self.mesh) / (self.side // self.mesh) ** 2

    def _on_cells(self, values: Float[Tensor, "batch mesh mesh"]) -> Float[Tensor, "batch cells"]:
        """M^T applied to values of elements."""
        if self.mesh >= self.side:
            return _block_sums(values, self.side).flatten(1)
        ratio = self.side // self.mesh
        return _repeated(values, ratio).flatten(1) / ratio**2


def _repeated(values: Float[Tensor, "batch n n"], times: int) -> Tensor:
    """Each value as a block of times x times."""
    return values.repeat_interleave(times, 1).repeat_interleave(times, 2)


def _block_sums(values: Float[Tensor, "batch n n"], blocks: int) -> Tensor:
    """Sums over blocks x blocks equal parts."""
    size = values.shape[1] // blocks
    return values.reshape(len(values), blocks, size, blocks, size).sum((2, 4))
