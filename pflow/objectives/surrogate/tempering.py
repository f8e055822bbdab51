"""Draws of a model's posterior in few dimensions, all modes of it: tempered from draws of the
prior.

    p_b(v) ~ p(v) L^(v)^b,      b from 0 to 1 so that each step keeps half of the effective sample
                                size

(sequential Monte Carlo samplers; Del Moral, Doucet, Jasra, 2006). No evaluation of F.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["gaussian_of", "tempered_draws"]

KEPT = 0.5
MOST_STEPS = 60
MOVES = 3


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
    temperature = 0.0
    for _ in range(MOST_STEPS):
        with torch.no_grad():
            log_likelihood = model.log_likelihood(v).nan_to_num(-math.inf, posinf=-math.inf)
        step = _next_step(log_likelihood, 1 - temperature)
        weights = torch.softmax(step * log_likelihood, 0)
        temperature += step
        frame = gaussian_of(v, weights)
        v = v[torch.multinomial(weights, count, replacement=True, generator=generator)]
        for _ in range(MOVES):
            v = _random_walk(model, v, frame, temperature, generator)
        if temperature >= 1:
            break
    return v


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


@torch.no_grad()
def _random_walk(
    model: OperatorModel,
    v: Tensor,
    frame: PosteriorGaussian,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """One Metropolis step of every point, with the covariance of all."""
    scale = 2.4 / math.sqrt(v.shape[1]) * (0.3 + 0.7 * float(torch.rand((), generator=generator)))

    def density(at: Tensor) -> Tensor:
        value = model.model.log_prior(at) + temperature * model.log_likelihood(at)
        return value.nan_to_num(-math.inf, posinf=-math.inf)

    noise = torch.randn(v.shape, generator=generator, dtype=v.dtype)
    new = v + scale * (frame.place(noise) - frame.mean)
    accept = torch.rand(len(v), generator=generator, dtype=v.dtype).log() < density(new) - density(
        v
    )
    return torch.where(accept[:, None], new, v)
