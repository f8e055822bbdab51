r"""Coordinates in which a posterior is nearly standard normal: those of its Laplace approximation.

With mean mu and covariance :math:`L L^\top` of the prior, x = mu + L v, the mode v* of log p~ and
the whitened residual w(y - F(x)) with Jacobian J in v, the posterior is near :math:`N(v^*, H^{-1})`
with :math:`H = I + J^\top J = R R^\top`. So

.. math:: x = \mu + L (v^* + R^{-\top} u)

turns it into a density of u near N(0, I). The change of coordinates is exact for every posterior;
its benefit depends on how close the posterior is to a normal distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.inference.target import Target

__all__ = ["LaplaceCoordinates", "laplace_coordinates"]

LARGEST = 4096  # parameters: matrices are dense
PRIOR_DRAWS = 20  # for each parameter, for the prior's covariance
ITERATIONS = 300
ROWS = 64  # of the Jacobian at once


@dataclass(frozen=True)
class LaplaceCoordinates:
    """x = centre + root u.

    Arguments:
        centre: the mode, (size,), in float64.
        root: a square root of the covariance, (size, size).
        shape: of one model.
    """

    centre: Float[Tensor, " size"]
    root: Float[Tensor, "size size"]
    shape: tuple[int, ...]

    def model(self, u: Float[Tensor, "batch size"]) -> Float[Tensor, "batch *model"]:
        """x at u."""
        return (self.centre + u @ self.root.T).reshape(-1, *self.shape)

    def of_model(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch size"]:
        """u at x."""
        return torch.linalg.solve(self.root, (x.flatten(1) - self.centre).T).T

    def pull(self, score: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch size"]:
        """The score with respect to u, given the one with respect to x."""
        return score.flatten(1) @ self.root


def laplace_coordinates(target: Target, generator: torch.Generator) -> LaplaceCoordinates:
    """Find the mode and the curvature of the data misfit there: a few hundred evaluations, and one
    for each datum.
    """
    from scipy.optimize import minimize

    problem = target.problem
    size = math.prod(problem.model_shape)
    draws = problem.sample_prior(PRIOR_DRAWS * size, generator, torch.float64).flatten(1)
    prior = LaplaceCoordinates(
        draws.mean(0),
        torch.linalg.cholesky(torch.atleast_2d(torch.cov(draws.T))),
        problem.model_shape,
    )

    def misfit(v):
        evaluated = target.evaluate(prior.model(torch.from_numpy(v)[None]))
        return -float(evaluated.log_density), -prior.pull(evaluated.score)[0].numpy()

    mode = torch.from_numpy(
        minimize(
            misfit,
            torch.zeros(size, dtype=torch.float64).numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": ITERATIONS},
        ).x
    )
    centre = prior.model(mode[None])
    jacobian = _jacobian(target, centre) @ prior.root
    factor = torch.linalg.cholesky(torch.eye(size, dtype=torch.float64) + jacobian.T @ jacobian)
    return LaplaceCoordinates(
        centre.flatten(),
        torch.linalg.solve_triangular(factor, prior.root.T, upper=False).T,
        problem.model_shape,
    )


def _jacobian(target: Target, x: Float[Tensor, "1 *model"]) -> Float[Tensor, "data size"]:
    """Of the whitened residual, by one gradient a datum."""
    problem, rows = target.problem, []
    with torch.enable_grad():
        for first in range(0, math.prod(problem.data_shape), ROWS):
            count = min(ROWS, math.prod(problem.data_shape) - first)
            points = x.detach().expand(count, *x.shape[1:]).clone().requires_grad_()
            residual = problem.noise.whiten(target.y - problem.high_fidelity(points)).flatten(1)
            rows.append(
                torch.autograd.grad(residual[:, first : first + count].diagonal().sum(), points)[
                    0
                ].flatten(1)
            )
            target.ledger.points += count
    return torch.cat(rows)
