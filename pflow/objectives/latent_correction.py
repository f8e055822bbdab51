r"""After fine-tuning: a Gaussian latent of the flow fitted to all scores, without further
evaluations.

In the latent z = T(x; y_obs), the posterior has the score

    g(z) = grad_z [ log p~(T^{-1}(z)) + log |det dT^{-1} / dz| ],        which is -z where q is the
                                                                         posterior.

The residual r(z) = g(z) + z is the part that the flow cannot express: a flow of local couplings,
for example, has no correlations of distant pixels, and where those are strong, the reverse KL makes
every posterior standard deviation too small. Its affine part b - M z is fitted to all evaluated
points (`affine_score`).

The posterior's latent is then N(P^{-1} b, P^{-1}), P = I + M. The ridge l is the smallest of those
whose error at points left out, a tenth of the newer ones, is as good as the best; where none is
clearly below the flow's own error, the flow stays as it is. Points far from the current flow have
smaller weights, w_i = min(1, D / |z_i|^2)^2.

References:
    | Reliable amortized variational inference with physics-based latent distribution correction
    (Siahkoohi et al., 2023)
    | https://arxiv.org/abs/2207.11640
    | Batch and match (Cai et al., 2024), https://arxiv.org/abs/2402.14758
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.objectives.affine_score import AffineScore

__all__ = [
    "MOST_UNKNOWNS",
    "TIE",
    "LatentCorrection",
    "bounded_inverse_root",
    "fit_latent",
    "latent_scores",
]

MOST_UNKNOWNS = 6000  # M is dense: 0.3 GB there, in double precision
RIDGES = tuple(10.0 ** (k / 8) for k in range(-24, 9))  # times the number of points
LEFT_OUT = 10  # every tenth of the newer half
# Errors that count as equal: of such ridges the smallest, since what a ridge shrinks are
# correlations, and with them deviations
TIE = 1.03
GAIN = 0.98  # of the error without a correction; above, no correction is made
WIDEST = 10.0  # largest variance of a direction
BATCH_ELEMENTS = 2**18  # of x in one batch: its graph is in memory


@dataclass(frozen=True)
class LatentCorrection:
    """N(mean, root root^T) for the latent.

    Attributes:
        mean, root: (D,) and (D, D), lower triangular.
        error, flow_error: mean of |r|^2 / D at the points left out, with and without the
            correction.
        points: n, evaluations that it was fitted to.
    """

    mean: Tensor
    root: Tensor
    error: float
    flow_error: float
    points: int


def latent_scores(flow: Flow, summary: Tensor, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """z = T(x) and the score g(z) of the module, both (batch, *model), for points `x` with the
    scores `score` of p~.
    """
    with torch.no_grad():
        z = flow(x, summary)[0]
    with torch.enable_grad():
        z = z.requires_grad_(True)
        image, log_determinant = flow.inverse(z, summary)
        (pulled_back,) = torch.autograd.grad((score * image).sum() + log_determinant.sum(), z)
    return z.detach(), pulled_back


def fit_latent(
    flow: Flow, summary: Tensor, evaluations: Evaluation, tie: float = TIE
) -> list[Callable[[], LatentCorrection]]:
    """The corrections fitted to `evaluations`, oldest first: that of the ridge of the module, then
    of ever larger ones.

    Each is made when it is called. There is none where it would explain the points left out no
    better than the flow alone.

    Arguments:
        flow: T, before its correction.
        summary: of y_obs, as the flow's conditioners see it.
        evaluations: kept so far, oldest first.
        tie: errors up to so many times the smallest count as equal to it.
    """
    x, score = evaluations.x[evaluations.valid], evaluations.score[evaluations.valid]
    batch = max(1, BATCH_ELEMENTS // math.prod(flow.model_shape))
    parts = [
        latent_scores(flow, summary, *part)
        for part in zip(x.split(batch), score.to(x).split(batch), strict=True)
    ]
    if not parts:
        return []
    z, g = (torch.cat(values).flatten(1).double() for values in zip(*parts, strict=True))
    usable = (z.isfinite() & g.isfinite()).all(1)
    z, r = z[usable], (g + z)[usable]
    points, dimension = z.shape
    out = torch.zeros(points, dtype=torch.bool, device=z.device)
    out[points // 2 :: LEFT_OUT] = True
    if out.sum() < 2 or (~out).sum() < 2:
        return []
    weight = (dimension / z.square().sum(1)).clamp(max=1.0).square()
    fit = AffineScore(z, r, weight, out)
    del z, r

    def correction(ridge: float, error: float) -> LatentCorrection:
        precision, b = fit.matrix(ridge)
        precision.diagonal().add_(1.0)
        root = bounded_inverse_root(precision)
        return LatentCorrection(root @ (root.T @ b), root, error, fit.error_without, points)

    errors = [fit.error(ridge) for ridge in RIDGES]
    first = next(k for k, error in enumerate(errors) if error <= tie * min(errors))
    better = itertools.takewhile(
        lambda pair: pair[1] < GAIN * fit.error_without,
        zip(RIDGES[first:], errors[first:], strict=True),
    )
    return [partial(correction, ridge, error) for ridge, error in better]


def bounded_inverse_root(precision: Tensor) -> Tensor:
    """The lower triangular root of the covariance, with no direction wider than `WIDEST`. Where
    none would be, which two Cholesky factors tell, it takes a tenth of the time.
    """
    narrow = precision.clone()
    narrow.diagonal().sub_(1 / WIDEST)
    if int(torch.linalg.cholesky_ex(narrow).info):
        values, directions = torch.linalg.eigh(precision)
        return torch.linalg.cholesky((directions / values.clamp(min=1 / WIDEST)) @ directions.T)
    # P = U U^T with U upper triangular, so that U^{-T} is the root
    upper = torch.linalg.cholesky(precision.flip(0, 1)).flip(0, 1)
    identity = torch.eye(len(precision), dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(upper, identity, upper=True).T
