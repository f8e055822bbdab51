"""Draws of a model's posterior in few dimensions, all modes of it: tempered from draws of the
prior.

    p_b(v) ~ p(v) L^(v)^b,      b from 0 to 1 so that each step keeps half of the effective sample
                                size

(sequential Monte Carlo samplers; Del Moral, Doucet, Jasra, 2006). No evaluation of F.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["gaussian_of", "tempered_draws"]

KEPT = 0.5
MOST_STEPS = 60
FEWEST_MOVES = 3  # of a step; in more dimensions as many as there are


def gaussian_of(points: Tensor, weights: Tensor | None = None) -> PosteriorGaussian:
    """The Gaussian with the moments of draws, (n, D)."""
    weights = (
        torch.full((len(points),), 1 / len(points), dtype=points.dtype)
        if weights is None
        else weights / weights.sum()
    )
    mean = weights @ points
    centred = points - mean
    covariance = (centred * weights[:, None]).T @ centred
    covariance = covariance + (1e-9 + 1e-6 * covariance.diagonal().mean()) * torch.eye(
        len(mean), dtype=points.dtype
    )
    root = torch.linalg.cholesky(torch.linalg.inv(covariance))
    return PosteriorGaussian(mean, root)


def tempered_draws(model: OperatorModel, count: int, generator: torch.Generator) -> Tensor:
    """`count` draws of p^, (count, D), equally weighted."""
    problem = model.model.problem
    v = model.model.whiten(problem.sample_prior(count, generator, torch.float64))
    drawn = _Walkers.at(model, v)
    temperature = 0.0
    for _ in range(MOST_STEPS):
        step = _next_step(drawn.log_likelihood, 1 - temperature)
        weights = torch.softmax(step * drawn.log_likelihood, 0)
        temperature += step
        frame = gaussian_of(drawn.v, weights)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        drawn = _Walkers(*(part[chosen] for part in drawn))
        for _ in range(max(FEWEST_MOVES, v.shape[1])):
            drawn = drawn.step(model, frame, temperature, generator)
        if temperature >= 1:
            break
    return drawn.v


class _Walkers(NamedTuple):
    """Points, (n, D), and the two parts of log p^ there, (n,)."""

    v: Tensor
    log_prior: Tensor
    log_likelihood: Tensor

    @classmethod
    @torch.no_grad()
    def at(cls, model: OperatorModel, v: Tensor) -> _Walkers:
        parts = (model.model.log_prior(v), model.log_likelihood(v))
        return cls(v, *(part.nan_to_num(-math.inf, posinf=-math.inf) for part in parts))

    def step(
        self,
        model: OperatorModel,
        frame: PosteriorGaussian,
        temperature: float,
        generator: torch.Generator,
    ) -> _Walkers:
        """One Metropolis step of every point, with the covariance of all."""
        jitter = 0.3 + 0.7 * float(torch.rand((), generator=generator))
        scale = 2.4 / math.sqrt(self.v.shape[1]) * jitter
        noise = torch.randn(self.v.shape, generator=generator, dtype=self.v.dtype)
        new = _Walkers.at(model, self.v + scale * (frame.place(noise) - frame.mean))
        gain = new.log_prior - self.log_prior
        gain = gain + temperature * (new.log_likelihood - self.log_likelihood)
        accept = torch.rand(len(gain), generator=generator, dtype=self.v.dtype).log() < gain
        return _Walkers(
            torch.where(accept[:, None], new.v, self.v),
            *(torch.where(accept, ours, old) for ours, old in zip(new[1:], self[1:], strict=True)),
        )


def _next_step(log_likelihood: Tensor, left: float) -> float:
    """The largest step of the temperature that keeps half of the effective sample size."""

    def kept(step: float) -> float:
        weights = torch.softmax(step * log_likelihood, 0)
        return float(1 / (len(weights) * weights.square().sum()))

    if kept(left) >= KEPT:
        return left
    low, high = 0.0, left
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) >= KEPT else (low, middle)
    return max(low, 1e-6)
