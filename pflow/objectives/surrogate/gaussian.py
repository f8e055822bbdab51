"""The Gaussian of a model's posterior: Gauss-Newton for its mode, and the curvature there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["PosteriorGaussian", "centred", "gauss_newton", "widened"]

STEPS, HALVINGS = 20, 12
DRAWS = 64
CENTRINGS, PAIRS = 3, 1024  # steps, and the largest number of pairs in each
FARTHEST = 0.25  # the square of a step, per parameter
SMALL = 1e-3  # nats of predicted gain below which the mode is reached


@dataclass(frozen=True)
class PosteriorGaussian:
    """N(mean, (R R^T)^{-1}), R lower triangular."""

    mean: Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        # One layout in memory, also after a checkpoint: products round alike.
        object.__setattr__(self, "factor", self.factor.contiguous())

    def place(self, u: Tensor) -> Tensor:
        """v = mean + R^{-T} u."""
        v = torch.linalg.solve_triangular(self.factor.T, u.T, upper=True).T
        return (self.mean + v).contiguous()

    def whiten(self, v: Tensor) -> Tensor:
        """u = R^T (v - mean)."""
        return (v - self.mean) @ self.factor

    def pull(self, score: Tensor) -> Tensor:
        """grad_u = R^{-1} grad_v."""
        return torch.linalg.solve_triangular(self.factor, score.T, upper=False).T


def gauss_newton(model: OperatorModel, start: Tensor) -> PosteriorGaussian:
    """The mode of p^ reached from `start`, (D,), with the Gauss-Newton curvature I + J^T J there.

    Steps are halved until p^ grows. Costs no evaluation of F.
    """
    v = start.clone()
    value, score = (part[0] for part in model.value_and_score(v[None]))
    for _ in range(STEPS):
        jacobian = model.jacobian(v)
        factor = _precision_root(jacobian)
        if not torch.isfinite(value):
            break
        direction = torch.cholesky_solve(score[:, None], factor)[:, 0]
        if 0.5 * float(score @ direction) < SMALL:
            break
        length = 1.0
        for _ in range(HALVINGS):
            trial = v + length * direction
            new, new_score = (part[0] for part in model.value_and_score(trial[None]))
            if float(new) > float(value) + 1e-4 * length * float(score @ direction):
                break
            length /= 2
        else:
            break
        v, value, score = trial, new, new_score
    return PosteriorGaussian(v, factor)


def _precision_root(jacobian: Tensor) -> Tensor:
    """R, lower triangular, of R R^T = I + J^T J. Where a model has run away, J^T J may be so large
    that I is lost in it; an orthogonal factorisation of (J, I) keeps it.
    """
    identity = torch.eye(jacobian.shape[1], dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(identity + jacobian.T @ jacobian)
    if not failed:
        return factor
    root = torch.linalg.qr(torch.cat([jacobian.nan_to_num(), identity]), mode="r").R
    return (root * root.diagonal().sign()[:, None]).T


def centred(
    model: OperatorModel, frame: PosteriorGaussian, generator: torch.Generator
) -> PosteriorGaussian:
    """The Gaussian with the covariance of `frame` whose mean minimises KL(q || p^).

    There the average score over the Gaussian vanishes; at the mode it does not where the curvature
    of the model is not the same everywhere. Natural-gradient steps, over pairs of opposite points
    along orthogonal directions at the distance of draws: what the third derivatives add to the
    average is exact over D pairs, and noisy over draws. A step that would go farther than half a
    standard deviation a parameter is not taken: the points lie where the model explodes. Costs no
    evaluation of F.
    """
    size = len(frame.mean)
    for _ in range(CENTRINGS):
        random = torch.randn(size, min(size, PAIRS), generator=generator, dtype=torch.float64)
        noise = math.sqrt(size) * torch.linalg.qr(random).Q.T
        _, score = model.value_and_score(frame.place(torch.cat([noise, -noise])))
        shift = frame.pull(score.mean(0, keepdim=True))
        if not float(shift.square().mean()) < FARTHEST:
            break
        frame = PosteriorGaussian(frame.place(shift)[0], frame.factor)
    return frame


def widened(
    model: OperatorModel, frame: PosteriorGaussian, generator: torch.Generator
) -> PosteriorGaussian:
    """The Gaussian of p^ when the noise is widened by Var delta, the mean over draws of `frame`.

    Where delta is unknown the posterior goes back towards the prior.
    """
    if model.delta is None or not model.data.gaussian:
        return frame
    noise = torch.randn(DRAWS, len(frame.mean), generator=generator, dtype=torch.float64)
    along, beside = (part.mean(0) for part in model.variance(frame.place(noise)))
    basis = model.delta.basis
    jacobian = model.jacobian(frame.mean)

    def weigh(rows: Tensor) -> Tensor:
        """(I + Var)^{-1} applied to data, (m, ...)."""
        inside = basis.T @ rows
        return rows / (1 + beside) + basis @ (
            inside * (1 / (1 + along) - 1 / (1 + beside))[:, None]
        )

    weighted = weigh(jacobian)
    identity = torch.eye(len(frame.mean), dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(identity + jacobian.T @ weighted)
    if failed:
        return frame
    residual = (model.data.observed - model.predict(frame.mean[None]).detach())[0]
    score = weighted.T @ residual + model.model.prior_score(frame.mean[None])[0]
    return PosteriorGaussian(
        frame.mean + torch.cholesky_solve(score[:, None], factor)[:, 0], factor
    )
