r"""Is `log_prior` the density of what `sample_prior` draws?

For draws x of a density p that falls off on all sides, integration by parts gives

.. math::
    E[\nabla \log p(x)] = 0, \qquad E[x \cdot \nabla \log p(x)] = -D

with D unknowns (Stein's identities). A wrong mean breaks the first, a wrong standard deviation the
second: by the factor (true / assumed)^2 for Gaussians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.problems.base import Problem

__all__ = ["check_prior"]

DRAWS, ELEMENTS = 4096, 2**21  # fewer draws where models are large
STANDARD_ERRORS = 6.0
SCALE_TOLERANCE, SHIFT_TOLERANCE = 0.05, 0.1  # what is smaller is forgiven, however significant
STRETCH = 8.0


def check_prior(problem: Problem, generator: torch.Generator) -> dict[str, float | None]:
    """Compares the prior's density with its draws.

    Returns:
        `prior_scale_error`, |E[x . grad log p] + D| / D, and `prior_shift_standard_errors`, the
        largest |E[grad log p]| of an unknown in its standard errors; None where the problem has no
        density, no gradient of it, or a density with bounds, of which the identities do not hold.

    Raises:
        PflowError: one of them is neither small nor explained by its standard error.
    """
    size = math.prod(problem.model_shape)
    x = problem.sample_prior(min(DRAWS, max(64, ELEMENTS // size)), generator, torch.float64)
    score = _score(problem, x)
    if score is None or _bounded(problem, x):
        return {"prior_scale_error": None, "prior_shift_standard_errors": None}
    x, score = x.flatten(1), score.flatten(1)
    centred = x - x.mean(0)
    scale, scale_se = _mean_and_error((centred * score).sum(1, keepdim=True) / size)
    shift, shift_se = _mean_and_error(score * x.std(0))
    scale_error = float((scale + 1).abs())
    deviation = shift.abs() / shift_se.clamp_min(torch.finfo(shift.dtype).tiny)
    _require(
        scale_error > SCALE_TOLERANCE and scale_error > STANDARD_ERRORS * float(scale_se),
        f"E[x . grad log p(x)] must be -{size}, and is {size * float(scale):.4g} +-"
        f" {size * float(scale_se):.2g}; of Gaussians, the draws have {-float(scale):.3g} times the"
        " variance of the density",
    )
    wrong = (shift.abs() > SHIFT_TOLERANCE) & (deviation > STANDARD_ERRORS)
    _require(
        bool(wrong.any()),
        f"E[grad log p(x)] must be 0, and for unknown {int(wrong.int().argmax())} the draws lie"
        f" about {float(shift[wrong.int().argmax()].abs()):.2g} standard deviations off",
    )
    return {
        "prior_scale_error": scale_error,
        "prior_shift_standard_errors": float(deviation.max()),
    }


def _score(problem: Problem, x: Tensor) -> Tensor | None:
    """The gradient of log p at each draw; None where there is no density or no gradient."""
    leaf = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            log_density = problem.log_prior(leaf)
    except PflowError:  # the problem says that its density is not known
        return None
    if not log_density.isfinite().all():
        raise PflowError(
            f"`{type(problem).__name__}.log_prior` must be finite at draws of the prior, and"
            f" {int((~log_density.isfinite()).sum())} of {len(x)} are not: it is not the density of"
            " what `sample_prior` draws"
        )
    if not log_density.requires_grad:
        return None
    return torch.autograd.grad(log_density.sum(), leaf)[0]


@torch.no_grad()
def _bounded(problem: Problem, x: Tensor) -> bool:
    """Whether the density ends somewhere around the draws."""
    try:
        outside = problem.log_prior(x.mean(0) + STRETCH * (x - x.mean(0)))
    except ValueError:  # torch distributions refuse values outside their support
        return True
    return not bool(outside.isfinite().all())


def _mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the draws and their standard errors."""
    return values.mean(0), values.std(0) / math.sqrt(len(values))


def _require(broken: bool, what: str) -> None:
    if broken:
        raise PflowError(
            f"`log_prior` must be the density of what `sample_prior` draws: {what}: correct one of"
            " the two"
        )
