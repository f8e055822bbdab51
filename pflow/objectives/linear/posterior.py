r"""The posterior under a linear F that was learnt, without evaluations.

With x_0, W = J^T Q and the residual a = Q^T (w_obs - w_0) of `operator_range`, the Gaussian
log-likelihood of the directions Q of the data is

    log L^(x) = log L(x_0) + a . W^T (x - x_0) - |W^T (x - x_0)|^2 / 2.

Directions of the data that were not seen are left out: with few evaluations the posterior is that
of a part of the data, too wide and never too narrow.

Under a stationary Gaussian prior N(0, S^2) the posterior is Gaussian: with A = S W, in v = S^{-1} x
it has the precision I + A A^T and the mean (I + A A^T)^{-1} A (a + W^T x_0). The eigenvectors of
A A^T, which those of the smaller A^T A tell, make it the identity but for rank(F) directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.objectives.linear.operator_range import OperatorRange
from pflow.problems.base import Problem
from pflow.problems.stationary import StationaryGaussian

__all__ = ["LinearPosterior", "gaussian_posterior", "prior_and_score"]

SMALL = 1e-10  # of the largest eigenvalue of A A^T: rounding
AT_ONCE = 256  # images filtered together


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
        value = self.peak + along @ known.residual - 0.5 * along.square().sum(1)
        gradient = (known.residual - along) @ known.adjoint.T
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


def gaussian_posterior(
    known: OperatorRange, prior: StationaryGaussian
) -> tuple[Tensor, Tensor, Tensor]:
    """Of v = S^{-1} x under the posterior: its mean, (D,), and the directions, (D, r) and
    orthonormal, in which its variances, (r,), are not 1.
    """
    slope = known.adjoint @ (known.residual + known.adjoint.T @ known.point)
    white = _filtered(prior, slope[None])[0]
    if not known.rank:
        return white, known.adjoint, known.residual
    parts = known.adjoint.T.split(AT_ONCE)
    rows = torch.cat([_filtered(prior, part) for part in parts])  # A^T
    squares, vectors = torch.linalg.eigh(rows @ rows.T)
    seen = squares > SMALL * squares[-1]
    directions = (rows.T @ vectors[:, seen]) / squares[seen].sqrt()
    variances = 1 / (1 + squares[seen])
    mean = white + directions @ ((variances - 1) * (directions.T @ white))
    return mean, directions, variances


def _filtered(prior: StationaryGaussian, rows: Tensor) -> Tensor:
    """S times each row."""
    return prior.root_times(rows.view(-1, *prior.shape)).flatten(1)
