r"""The Gaussian whose score is the affine function that fits the evaluated scores best.

In coordinates u of a Gaussian at hand, where its score is -u,

    grad log p~(u_i) + u_i = g + B u_i + error,      ridge  lambda |B|^2,   B made symmetric

and the Gaussian with the score g - (I - B) u has the precision I - B and the mean (I - B)^{-1} g.
Folds that are left out choose lambda. Scores tell of the curvature of F times the residual, which
no Gauss-Newton curvature of a model of F holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.objectives.surrogate.gaussian import PosteriorGaussian

__all__ = ["score_gaussian"]

RIDGES = (1.0, 10.0, 100.0, 1e3, 1e4)
FOLDS, FEWEST, MOST = 8, 32, 1024  # evaluations near the posterior
NARROWEST, WIDEST = 20.0, 0.05  # eigenvalues of the precision, in units of that at hand
# Of the squared error without a fit, which a fit has to come below: it was .68 to .78 where the fit
# halved the error of means (traveltime), and .95 and more where a flow gains more (lognormal-64).
WORTH = 0.9


def score_gaussian(
    frame: PosteriorGaussian, v: Tensor, score: Tensor, weights: Tensor
) -> PosteriorGaussian | None:
    """None where scores that are left out are not predicted better than by the Gaussian at hand.

    Arguments:
        frame: the Gaussian at hand.
        v: evaluated points, (n, D).
        score: of the posterior there, (n, D).
        weights: of the points, 1 near the posterior, (n,).
    """
    if float(weights.sum()) < FEWEST:
        return None
    nearest = weights.argsort(descending=True, stable=True)[:MOST].sort().values
    weights, u = weights[nearest], frame.whiten(v[nearest])
    rest = frame.pull(score[nearest]) + u
    errors = _left_out(u, rest, weights)
    best = int(errors.argmin())
    if float(errors[best]) > WORTH * float((weights[:, None] * rest.square()).sum()):
        return None
    g, slope = _Ridge(u, rest, weights).fit(RIDGES[best])
    identity = torch.eye(len(g), dtype=u.dtype)
    values, vectors = torch.linalg.eigh(identity - 0.5 * (slope + slope.T))
    values = values.clamp(WIDEST, NARROWEST)
    mean = vectors @ ((vectors.T @ g) / values)
    precision = frame.factor @ (vectors * values) @ vectors.T @ frame.factor.T
    factor = torch.linalg.cholesky(0.5 * (precision + precision.T))
    return PosteriorGaussian(frame.place(mean[None])[0], factor)


class _Ridge:
    """Weighted fits rest = g + u B for any ridge, by one eigenproblem of the points."""

    def __init__(self, u: Tensor, rest: Tensor, weights: Tensor) -> None:
        self.centre, self.offset = (weights @ part / weights.sum() for part in (u, rest))
        root = weights.sqrt()[:, None]
        self.u, self.rest = root * (u - self.centre), root * (rest - self.offset)
        self.values, self.vectors = torch.linalg.eigh(self.u @ self.u.T)

    def fit(self, ridge: float) -> tuple[Tensor, Tensor]:
        """g, (D,), and B, (D, D)."""
        dual = (self.vectors.T @ self.rest) / (self.values.clamp(min=0) + ridge)[:, None]
        slope = self.u.T @ (self.vectors @ dual)
        return self.offset - self.centre @ slope, slope


def _left_out(u: Tensor, rest: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error at points that are left out, for each ridge."""
    fold = torch.arange(len(u)) % FOLDS
    errors = torch.zeros(len(RIDGES), dtype=u.dtype)
    for k in range(FOLDS):
        out = fold == k
        fitted = _Ridge(u[~out], rest[~out], weights[~out])
        for row, ridge in enumerate(RIDGES):
            g, slope = fitted.fit(ridge)
            squares = (rest[out] - g - u[out] @ slope).square()
            errors[row] += (weights[out, None] * squares).sum()
    return errors
