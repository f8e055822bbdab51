r"""Multivariate normal distributions, and their posteriors under linear observations.

With a prior :math:`x = L w`, :math:`w \sim N(0, I)`, and an observation :math:`y = A x + \sigma
\epsilon`, the posterior in w is, with M = A L:

    precision of w given y    P = I + M^T M / sigma^2 = R R^T
    mean                      w* = P^-1 M^T y / sigma^2,   x* = L w*
    root of the covariance    S = L R^-T,   Cov(x given y) = S S^T
    evidence                  log p(y) = log p(y given x*) - |w*|^2 / 2 - log det R

No eigenvalue of P is below one, so this is stable for any prior, operator and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators import Constant
from pflow.problems.base import standard_normal

__all__ = ["LinearGaussianPosterior", "Normal", "linear_gaussian_posterior"]


class Normal:
    r"""The distribution of :math:`x = \mu + S w` with :math:`w \sim N(0, I)`.

    It is computed in the dtype of its input, from constants kept in float64.

    Arguments:
        mean: mu.
        root: S, any square root of the covariance.
        whitening: S^-1.
    """

    def __init__(
        self,
        mean: Float[Tensor, " size"],
        root: Float[Tensor, "size size"],
        whitening: Float[Tensor, "size size"],
    ) -> None:
        self.shape: tuple[int, ...] = (len(mean),)
        self._mean, self._root, self._whitening = (
            Constant(mean),
            Constant(root),
            Constant(whitening),
        )
        # The density of w at 0, times |det S^-1|.
        self._log_peak = torch.linalg.slogdet(self._whitening.value).logabsdet.item() - 0.5 * len(
            mean
        ) * math.log(2 * math.pi)

    @property
    def mean(self) -> Float[Tensor, " size"]:
        """mu, in float64."""
        return self._mean.value

    @property
    def root(self) -> Float[Tensor, "size size"]:
        """S, in float64."""
        return self._root.value

    def log_density(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        """log N(x; mu, S S^T)."""
        w = (x - self._mean.like(x)) @ self._whitening.like(x).T
        return self._log_peak - 0.5 * w.square().sum(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n size"]:
        """Independent draws, in float64 on the generator's device."""
        w = standard_normal((n, len(self.mean)), generator)
        return self._mean.like(w) + w @ self._root.like(w).T


@dataclass(frozen=True)
class LinearGaussianPosterior:
    """An `ExactPosterior` that is normal.

    Arguments:
        normal: the posterior.
        log_evidence: log p(y).
        like: a tensor of the dtype and on the device that results shall have.
    """

    normal: Normal
    log_evidence: float
    like: Tensor

    @property
    def mean(self) -> Float[Tensor, " size"]:
        return self.normal.mean.to(self.like)

    @property
    def std(self) -> Float[Tensor, " size"]:
        return self.normal.root.square().sum(-1).sqrt().to(self.like)

    @property
    def covariance(self) -> Float[Tensor, "size size"]:
        return (self.normal.root @ self.normal.root.T).to(self.like)

    def log_density(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        return self.normal.log_density(x.double()).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n size"]:
        return self.normal.sample(n, generator).to(self.like)


def linear_gaussian_posterior(
    prior_root: Float[Tensor, "size size"],
    matrix: Float[Tensor, "data size"],
    noise_std: float,
    y: Float[Tensor, " data"],
) -> LinearGaussianPosterior:
    """The posterior of x ~ N(0, L L^T) given y = A x + noise_std * noise.

    Arguments:
        prior_root: L, lower triangular, in float64.
        matrix: A, in float64.
        noise_std: sigma.
        y: the observation; its dtype and device are those of the results.
    """
    observation = y.to(prior_root)
    identity = torch.eye(len(prior_root)).to(prior_root)
    m = matrix @ prior_root / noise_std
    r = torch.linalg.cholesky(identity + m.T @ m)
    w = torch.cholesky_solve((m.T @ observation)[:, None] / noise_std, r)[:, 0]
    mean = prior_root @ w
    root = torch.linalg.solve_triangular(r, prior_root.T, upper=False).T
    whitening = r.T @ torch.linalg.solve_triangular(prior_root, identity, upper=False)
    misfit = (observation - matrix @ mean) / noise_std
    log_evidence = (
        -0.5 * (misfit @ misfit + w @ w)
        - r.diagonal().log().sum()
        - len(y) * (math.log(noise_std) + 0.5 * math.log(2 * math.pi))
    )
    return LinearGaussianPosterior(Normal(mean, root, whitening), log_evidence.item(), y)
