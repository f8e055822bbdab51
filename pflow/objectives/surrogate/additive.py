r"""What an affine map leaves of a smooth operator: polynomials of single parameters.

    e(x) = sum_j sum_{k=1..3} B_jk h_k(u_j),      u_j = (x_j - mu_j) / s_j within -c and c
                                                  h_1 = u,  h_2 = u^2 - 1,  h_3 = u^3 - 3 u

with mu and s the mean and standard deviation of the current posterior. Operators whose parameters
are pixels of a field are often nearly a sum over pixels of nonlinear functions (a travel time is
the sum of slownesses along its ray), and then these 3 D functions say what 3 D evaluations can
tell. B is a ridge fit. Ridge and bound c are those of the smallest leave-one-out error; c may be
infinite. Where polynomials do not describe the operator, they are worst far from the mean, and
without a bound the posterior of the model had spurious mass there (`poisson`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["AdditiveResidual"]

BOUNDS = (2.0, 2.5, 3.0, math.inf)  # posterior standard deviations
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)


class AdditiveResidual:
    """The fit of the module to n residuals.

    Arguments:
        x: models, (n, D).
        residuals: what an affine model leaves of the whitened data, (n, m).
        weights: of the points, (n,).
        mean, std: mu and s, (D,).

    Attributes:
        bound, ridge: those of the smallest error.
        error: leave-one-out root mean square error per datum.
        before: the same of leaving the residuals unexplained.
    """

    def __init__(
        self, x: Tensor, residuals: Tensor, weights: Tensor, mean: Tensor, std: Tensor
    ) -> None:
        self.centre, self.scale = mean, std
        root = weights.sqrt()[:, None]
        residuals = root * residuals
        unit = float(weights.sum()) * residuals.shape[1]
        self.before = float(residuals.square().sum() / unit) ** 0.5
        self.error = math.inf
        for bound in BOUNDS:
            self._fit(root * self._features(x, bound), residuals, unit, bound)

    def _fit(self, features: Tensor, residuals: Tensor, unit: float, bound: float) -> None:
        """Keep the best ridge under a bound, if it is better than what is known."""
        values, vectors = torch.linalg.eigh(features @ features.T)
        values, rotated, squares = values.clamp(min=0), vectors.T @ residuals, vectors.square()
        for ridge in RIDGES:
            inverse = 1 / (values + ridge)
            solution = vectors @ (inverse[:, None] * rotated)
            left_out = solution / (squares @ inverse)[:, None]
            error = float(left_out.square().sum() / unit) ** 0.5
            if error < self.error:
                self.error, self.bound, self.ridge = error, bound, ridge
                self.coefficients = features.T @ solution

    def _features(self, x: Tensor, bound: float) -> Tensor:
        u = ((x - self.centre) / self.scale).clamp(-bound, bound)
        return torch.cat([torch.ones_like(u[:, :1]), u, u.square() - 1, u**3 - 3 * u], 1)

    def mean(self, x: Tensor) -> Tensor:
        """e(x), (batch, m), differentiable."""
        return self._features(x, self.bound) @ self.coefficients

    def jacobian(self, x: Tensor) -> Tensor:
        """d e / d x at one model x (D,), (m, D)."""
        u = (x - self.centre) / self.scale
        inside, u, size = u.abs() < self.bound, u.clamp(-self.bound, self.bound), len(u)
        first, second, third = (
            self.coefficients[1 + k * size : 1 + (k + 1) * size] for k in range(3)
        )
        return (
            (first + 2 * u[:, None] * second + (3 * u.square() - 3)[:, None] * third)
            * (inside / self.scale)[:, None]
        ).T
