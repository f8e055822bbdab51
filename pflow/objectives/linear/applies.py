"""Where F is learnt as a linear operator, and under which prior."""

from __future__ import annotations

import math

from pflow.objectives.latent_correction import MOST_UNKNOWNS
from pflow.problems.base import Problem
from pflow.problems.noise.base import GaussianNoise
from pflow.problems.normal import Normal
from pflow.problems.stationary import StationaryGaussian

__all__ = ["DENSE", "LARGE", "learns_linear", "stationary_prior"]

LARGE = 256  # parameters from which a linear F is learnt as such
DENSE = MOST_UNKNOWNS  # up to which Gaussians of all parameters are matrices


def learns_linear(problem: Problem) -> bool:
    """Whether `objective: surrogate` learns F as a linear operator: F is linear and has a gradient,
    the noise is Gaussian, and the prior of more than 256 parameters is no dense Gaussian
    (`Normal`): the posteriors of images.
    """
    operator = problem.high_fidelity
    return (
        operator.linear
        and operator.differentiable
        and isinstance(problem.noise, GaussianNoise)
        and math.prod(problem.model_shape) > LARGE
        and not isinstance(getattr(problem, "prior", None), Normal)
    )


def stationary_prior(problem: Problem) -> StationaryGaussian | None:
    """The prior, where it is a stationary Gaussian."""
    prior = getattr(problem, "prior", None)
    return prior if isinstance(prior, StationaryGaussian) else None
