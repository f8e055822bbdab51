r"""Whitened coordinates: x = mu + L v with v ~ N(0, I) under the prior, and data w = S^{-1} y with
noise of covariance I.

In these coordinates every length means the same: v counts prior standard deviations, w counts noise
standard deviations. They are float64 on the CPU, wherever flow and operator are: the models of F
are small.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pflow.problems.base import Problem
from pflow.problems.noise.base import GaussianNoise
from pflow.problems.normal import Normal

__all__ = ["WhitenedData", "WhitenedModel"]

DENSE = 4096  # parameters up to which L is a matrix
DRAWS = 4096  # of the prior, where it is no Gaussian in closed form


class WhitenedModel:
    """v = L^{-1} (x - mu), mu and L L^T the mean and covariance of the prior.

    Exact for priors that are `Normal`; of other priors the moments are estimated from draws, and v
    is standardised, not normal. Beyond 4096 parameters L is diagonal.

    Attributes:
        gaussian: whether v ~ N(0, I) exactly.
        size: D.
    """

    def __init__(self, problem: Problem, generator: torch.Generator) -> None:
        self.problem, self.shape = problem, problem.model_shape
        self.size = math.prod(self.shape)
        prior = getattr(problem, "prior", None)
        self.gaussian = isinstance(prior, Normal)
        if isinstance(prior, Normal):
            self.mean, self.root = prior.mean.double(), prior.root.double()
        else:
            draws = (
                problem.sample_prior(
                    max(DRAWS, 4 * min(self.size, DENSE)), generator, torch.float64
                )
                .double()
                .cpu()
                .flatten(1)
            )
            self.mean = draws.mean(0)
            if self.size <= DENSE:
                covariance = torch.atleast_2d(torch.cov(draws.T))
                jitter = (
                    1e-6 * covariance.diagonal().mean() * torch.eye(self.size, dtype=torch.float64)
                )
                self.root = torch.linalg.cholesky(covariance + jitter)
            else:
                self.root = draws.std(0)
        dense = self.root.ndim == 2
        self.lower = dense and bool((self.root.triu(1) == 0).all())
        self.log_determinant = (
            float(torch.linalg.slogdet(self.root)[1]) if dense else float(self.root.log().sum())
        )

    def model(self, v: Tensor) -> Tensor:
        """x, (batch, *model), in float64."""
        x = v @ self.root.T if self.root.ndim == 2 else v * self.root
        return (self.mean + x).reshape(len(v), *self.shape)

    def whiten(self, x: Tensor) -> Tensor:
        """v, (batch, D)."""
        centred = x.to(self.mean).flatten(1) - self.mean
        if self.root.ndim == 1:
            return centred / self.root
        if self.lower:
            return torch.linalg.solve_triangular(self.root, centred.T, upper=False).T
        return torch.linalg.solve(self.root, centred.T).T

    def pull(self, gradient: Tensor) -> Tensor:
        """grad_v = L^T grad_x, (batch, D)."""
        gradient = gradient.to(self.mean).flatten(1)
        return gradient @ self.root if self.root.ndim == 2 else gradient * self.root

    def push(self, gradient: Tensor) -> Tensor:
        """grad_x = L^{-T} grad_v, (batch, D)."""
        if self.root.ndim == 1:
            return gradient / self.root
        if self.lower:
            return torch.linalg.solve_triangular(self.root.T, gradient.T, upper=True).T
        return torch.linalg.solve(self.root.T, gradient.T).T

    def log_prior(self, v: Tensor) -> Tensor:
        """log p(v), (batch,), differentiable."""
        if self.gaussian:
            return -0.5 * v.square().sum(1) - 0.5 * self.size * math.log(2 * math.pi)
        return self.problem.log_prior(self.model(v)).double() + self.log_determinant

    def prior_score(self, v: Tensor) -> Tensor:
        """grad_v log p(v), (batch, D)."""
        if self.gaussian:
            return -v
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            return torch.autograd.grad(self.log_prior(v).sum(), v)[0]


class WhitenedData:
    """w = S^{-1} y and the log-likelihood in it; S is the root of the noise covariance, or the
    scale of heavy-tailed noise.

    Attributes:
        observed: w of the observation, (m,).
    """

    def __init__(self, problem: Problem, y: Tensor) -> None:
        self.noise, self.shape = problem.noise, problem.data_shape
        self.y = y.double().cpu()
        self.gaussian = isinstance(self.noise, GaussianNoise)
        self.size = math.prod(self.shape)
        self.observed = self.whiten(self.y)[0]
        self._peak = float(self.noise.log_likelihood(torch.zeros_like(self.y)))

    def whiten(self, data: Tensor) -> Tensor:
        """S^{-1} of data or residuals, (batch, m); linear."""
        data = data.to(self.y)
        if self.gaussian:
            return self.noise.whiten(data).flatten(1)
        return (data / self._scale).flatten(1)

    @property
    def _scale(self) -> float:
        """Of noise without a covariance root: what one nat below the peak is worth, the same for
        all data.
        """
        if not hasattr(self, "_known_scale"):
            self._known_scale = self._estimate_scale()
        return self._known_scale

    def _estimate_scale(self) -> float:
        draws = self.noise.sample(64, torch.Generator().manual_seed(0), torch.float64)
        return float(draws.abs().median() / 0.6745) or 1.0

    def log_likelihood(self, residual: Tensor) -> Tensor:
        """log p(y given x) at the whitened residual y - F(x), (batch,), differentiable."""
        if self.gaussian:
            return self._peak - 0.5 * residual.square().sum(1)
        return self.noise.log_likelihood(
            (residual * self._scale).reshape(len(residual), *self.shape)
        )

    def pull(self, residual: Tensor) -> Tensor:
        """r = d log p / d w at a whitened residual, (batch, m): what the gradient multiplies the
        adjoint with.
        """
        if self.gaussian:
            return residual
        with torch.enable_grad():
            w = residual.detach().requires_grad_()
            return -torch.autograd.grad(self.log_likelihood(w).sum(), w)[0]
