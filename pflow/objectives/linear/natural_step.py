r"""A step of the natural gradient of the Gaussian of a latent, z = m + A w.

The regression of r(w) = g_w(w) + w on w (`affine_score`; g_w the score of p^ seen in w) gives b and
M, and with

    P = I + rho M,    w ~ N(rho P^{-1} b, P^{-1})

is a step of size rho: at its end b and M vanish.

`DenseAffine` takes P as a matrix. `PrincipalAffine` takes the eigenvectors of M, of which there are
twice as many as draws: with A = I + Q d Q^T and P^{-1/2} = I + V e V^T, the covariance

    A P^{-1} A^T = I + (something in the span of Q and V)

is diagonalised in that span, and the directions whose variances differ most from 1 are kept.

References:
    | Fast and simple natural-gradient variational inference (Lin, Khan, Schmidt, ICML 2019)
    | https://arxiv.org/abs/1906.02914
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.flows.latent import DenseAffine
from pflow.flows.principal import PrincipalAffine
from pflow.objectives.affine_score import AffineScore
from pflow.objectives.latent_correction import WIDEST, bounded_inverse_root

__all__ = ["natural_step"]

RIDGES = tuple(0.0125 * 2.0**k for k in range(11))  # times the number of points
LEFT_OUT = 8  # every eighth point chooses the ridge
MOST_DIRECTIONS = 2048


@torch.no_grad()
def natural_step(latent: DenseAffine | PrincipalAffine, w: Tensor, r: Tensor, size: float) -> None:
    """The step of the module in place, of size rho, from the residuals r at w, (n, D) each."""
    usual = r.square().sum(1)
    kept = usual < 20 * usual.median()  # a few draws far out would decide alone
    w, r = w[kept], r[kept]
    out = torch.arange(len(w), device=w.device) % LEFT_OUT == 0
    fit = AffineScore(w, r, torch.ones_like(w[:, 0]), out)
    ridge = min(RIDGES, key=fit.error)
    if isinstance(latent, DenseAffine):
        _dense(latent, *fit.matrix(ridge), size)
    else:
        _principal(latent, *fit.eigenvectors(ridge), size)


def _dense(latent: DenseAffine, matrix: Tensor, b: Tensor, size: float) -> None:
    precision = size * matrix
    precision.diagonal().add_(1.0)
    root = bounded_inverse_root(precision)
    factor = latent.factor.to(matrix)
    latent.set_root(latent.mean + factor @ (root @ (root.T @ (size * b))), factor @ root)


def _principal(
    latent: PrincipalAffine, values: Tensor, vectors: Tensor, b: Tensor, size: float
) -> None:
    variances = 1 / (1 + size * values).clamp(min=1 / WIDEST)
    shift = size * (b + vectors @ ((variances - 1) * (vectors.T @ b)))
    mean = latent.mean + latent.pull(shift[None])[0]  # A is symmetric
    before = latent.directions.to(vectors)
    basis = torch.linalg.qr(torch.cat([before, vectors], 1)).Q
    old, new = basis.T @ before, basis.T @ vectors
    root = new * (variances.sqrt() - 1) @ new.T  # P^{-1/2} - I in the span
    root.diagonal().add_(1.0)
    root = root + old @ (torch.expm1(latent.log_stretch.to(old))[:, None] * (old.T @ root))
    variances, turned = torch.linalg.eigh(root @ root.T)
    largest = variances.log().abs().argsort(descending=True)[:MOST_DIRECTIONS]
    latent.set_covariance(mean, basis @ turned[:, largest], variances[largest])
