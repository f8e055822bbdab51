"""Gaussian random fields on grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.problems.normal import Normal
from pflow.problems.validation import positive_number, whole_number

__all__ = ["MaternField"]

LARGEST = 4096  # parameters; matrices are dense, 134 MB each


class MaternField(Normal):
    r"""A Gaussian random field with Matern covariance, :math:`x \sim N(0, \varsigma^2 (C + \tau
    I))` on the points of a grid.

    .. math::
        C_{ij} = \frac{2^{1 - \nu}}{\Gamma(\nu)} u^\nu K_\nu(u), \qquad u = \sqrt{2 \nu}\,
        \frac{|r_i - r_j|}{\ell}

    The field is ceil(nu) - 1 times differentiable: nu = 1/2 is rough (:math:`e^{-r / \ell}`), nu =
    infinity is infinitely smooth (:math:`e^{-r^2 / 2 \ell^2}`).

    Reference:
        | Rasmussen, Williams, Gaussian Processes for Machine Learning, section 4.2,
        https://gaussianprocess.org/gpml

    Arguments:
        grid: points along each axis, one or two of them.
        length: correlation length ell, in the unit of `spacing`.
        nu: smoothness, above zero; math.inf too.
        std: standard deviation varsigma.
        spacing: distance of neighbours, one number or one an axis (which makes the field
            anisotropic).
        jitter: tau, the relative variance of independent values on top; it keeps smooth fields
            positive definite.
        shape: the shape of one model, by default (grid points,), row by row; for example (1, *grid)
            for an image.

    Raises:
        PflowError: for impossible values, a shape that does not fit the grid, more than 4096
            parameters, or if the covariance is singular in float64.

    Example:
        >>> prior = MaternField((8, 8), length=3.0)
        >>> x = prior.sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, prior.log_density(x).shape
        (torch.Size([5, 64]), torch.Size([5]))
    """

    def __init__(
        self,
        grid: Sequence[int],
        length: float,
        nu: float = 1.5,
        std: float = 1.0,
        spacing: float | Sequence[float] = 1.0,
        jitter: float = 1e-6,
        shape: Sequence[int] | None = None,
    ) -> None:
        grid = tuple(whole_number("grid", n, minimum=1, maximum=LARGEST) for n in grid)
        size = math.prod(grid)
        if not 1 <= len(grid) <= 2 or size > LARGEST:
            raise PflowError(
                f"`grid` (={grid}) must have one or two axes and at most {LARGEST} points, because"
                " its covariance is dense: make it coarser"
            )
        length, std, jitter = (
            positive_number("length", length),
            positive_number("std", std),
            positive_number("jitter", jitter),
        )
        spacings = [spacing] * len(grid) if isinstance(spacing, (int, float)) else list(spacing)
        if len(spacings) != len(grid):
            raise PflowError(
                f"`spacing` (={spacing}) must be one number, or one for each of the {len(grid)}"
                " axes of the grid"
            )
        ticks = [
            torch.arange(n, dtype=torch.float64) * positive_number("spacing", h)
            for n, h in zip(grid, spacings, strict=True)
        ]
        points = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(size, -1)
        squared_distance = (points[:, None] - points[None]).square().sum(-1)
        identity = torch.eye(size, dtype=torch.float64)
        root, failed = torch.linalg.cholesky_ex(
            _correlation(squared_distance, length, nu) + jitter * identity
        )
        if failed:
            raise PflowError(
                f"`problem.jitter` (={jitter}) must keep the prior covariance positive definite,"
                f" and is too small for `problem.length` (={length}): raise it, for example to 1e-6"
            )
        root *= std
        super().__init__(
            torch.zeros(size), root, torch.linalg.solve_triangular(root, identity, upper=False)
        )
        self.shape = (size,) if shape is None else tuple(shape)
        if math.prod(self.shape) != size:
            raise PflowError(
                f"`shape` (={self.shape}) of a model must hold the {size} points of the grid"
                f" {grid}: correct one of them"
            )

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        return super().sample(n, generator).reshape(n, *self.shape)

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        return super().log_density(x.flatten(1))


def _correlation(
    squared_distance: Float[Tensor, "size size"], length: float, nu: float
) -> Float[Tensor, "size size"]:
    """C."""
    if nu == math.inf:
        return torch.exp(-squared_distance / (2 * length**2))
    u = math.sqrt(2 * positive_number("nu", nu)) * squared_distance.sqrt() / length
    closed = {
        0.5: lambda: torch.exp(-u),
        1.5: lambda: (1 + u) * torch.exp(-u),
        2.5: lambda: (1 + u + u.square() / 3) * torch.exp(-u),
    }
    if nu in closed:
        return closed[nu]()
    from scipy.special import kv

    apart = torch.where(u == 0, 1.0, u)
    bessel = torch.from_numpy(kv(nu, apart.numpy()))
    power = torch.exp((1 - nu) * math.log(2) - math.lgamma(nu) + nu * apart.log())
    correlation = torch.where(u == 0, 1.0, power * bessel)
    if not correlation.isfinite().all():
        raise PflowError(
            f"`nu` (={nu}) is too large for these distances in float64: use math.inf, a field of"
            " any smoothness"
        )
    return correlation
