r"""The posterior under a linear F that was learnt, without evaluations.

With x_0, g_0 and W = J^T Q of `operator_range`, the Gaussian log-likelihood is

    log L^(x) = log L(x_0) + g_0 . (x - x_0) - |W^T (x - x_0)|^2 / 2.

Directions of the data that were not seen are missing from the square: with few evaluations the
posterior is too wide, never too narrow.

Under a Gaussian prior N(mu, L L^T) the posterior is Gaussian: in v = L^{-1} (x - mu) it has the
precision P = I + (L^T W) (L^T W)^T, and the mean P^{-1} L^T (g_0 - W W^T (mu - x_0)).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.objectives.linear.operator_range import OperatorRange
from pflow.problems.base import Problem

__all__ = ["LinearPosterior", "gaussian_posterior"]


class LinearPosterior:
    """p^(x) ~ p(x) L^(x).

    Arguments:
        problem: for its prior.
        known: what was learnt of F.
        log_likelihood: log L(x_0).
    """

    def __init__(self, problem: Problem, known: OperatorRange, log_likelihood: float) -> None:
        self.problem, self.known, self.peak = problem, known, log_likelihood

    def log_likelihood(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log L^(x), (batch,), and its gradient, (batch, *model)."""
        known = self.known
        step = x.detach().to(known.point).flatten(1) - known.point
        along = step @ known.adjoint
        value = self.peak + step @ known.gradient - 0.5 * along.square().sum(1)
        gradient = known.gradient - along @ known.adjoint.T
        return value.to(x), gradient.to(x).reshape(x.shape)

    def value_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p^(x), not normalised, (batch,), and its gradient, (batch, *model)."""
        prior, prior_score = prior_and_score(self.problem, x)
        value, gradient = self.log_likelihood(x)
        return value + prior, gradient + prior_score


def prior_and_score(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x), (batch,), and its gradient, (batch, *model)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = problem.log_prior(x)
        (score,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), score


def gaussian_posterior(known: OperatorRange, mean: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, (D,), and a root of the covariance, (D, D), of the posterior under the prior N(mean,
    root root^T).
    """
    adjoint = root.T @ known.adjoint  # L^T W
    precision = adjoint @ adjoint.T
    precision.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(precision)
    slope = known.gradient - known.adjoint @ (known.adjoint.T @ (mean - known.point))
    v = torch.cholesky_solve((root.T @ slope)[:, None], factor)[:, 0]
    # R^{-T} is a root of P^{-1}
    return mean + root @ v, torch.linalg.solve_triangular(factor.T, root, upper=True, left=False)
