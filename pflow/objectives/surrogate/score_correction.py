r"""What a model of F leaves of the posterior's score: a Gaussian factor.

    log p^_c(v) = log p^(v) + b . u + u^T B u / 2,        B symmetric,      u whitened by the Gaussian of p^

The curvature of F times the residual, which no fit to predicted data shows, is in the scores of the evaluated points. b and B minimise

    sum_i om_i |g_i - grad_u log p^(u_i) - b - B u_i|^2 + lambda |B|^2

over symmetric B: S B + B S + 2 lambda B = Q + Q^T with S = sum om u u^T, Q = sum om s u^T, one symmetric eigenproblem. lambda has
the smallest error on points left out, in folds. Where no lambda beats B = 0, b = 0 there is no correction.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ScoreCorrection", "fit_score_correction"]

FOLDS = 5
RIDGES = (1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
LARGEST = 0.7  # eigenvalue of B: the precision I - B stays above 0.3
SMALLEST = -20.0


class ScoreCorrection:
    """b and B of the module.

    Attributes:
        error: mean squared error per parameter of the corrected score at points left out.
        before: the same without correction.
    """

    def __init__(self, offset: Tensor, matrix: Tensor, error: float, before: float, ridge: float) -> None:
        values, vectors = torch.linalg.eigh(matrix)
        self.matrix = (vectors * values.clamp(SMALLEST, LARGEST)) @ vectors.T
        self.offset, self.error, self.before, self.ridge = offset, error, before, ridge

    def log_factor(self, u: Tensor) -> Tensor:
        """b . u + u^T B u / 2, (batch,)."""
        return u @ self.offset + 0.5 * ((u @ self.matrix) * u).sum(1)


def _solve(u: Tensor, s: Tensor, om: Tensor) -> "Callable":
    total = om.sum()
    centre, middle = (om[:, None] * u).sum(0) / total, (om[:, None] * s).sum(0) / total
    root = om.sqrt()[:, None]
    a, c = root * (u - centre), root * (s - middle)
    values, vectors = torch.linalg.eigh(a.T @ a)
    values = values.clamp(min=0)
    q = vectors.T @ (c.T @ a) @ vectors
    q = q + q.T

    def solution(ridge: float) -> tuple[Tensor, Tensor]:
        matrix = vectors @ (q / (values[:, None] + values + 2 * ridge)) @ vectors.T
        return middle - matrix @ centre, matrix

    return solution


def fit_score_correction(u: Tensor, residual: Tensor, weights: Tensor) -> ScoreCorrection | None:
    """The factor that explains `residual`, (n, D), the score minus that of p^ in u; None where leaving it out is better.

    Arguments:
        u: points, (n, D).
        weights: om, (n,).
    """
    n = len(u)
    if n < 2 * FOLDS:
        return None
    errors = torch.zeros(len(RIDGES), dtype=torch.float64)
    fold = torch.arange(n) % FOLDS
    for k in range(FOLDS):
        solution = _solve(u[fold != k], residual[fold != k], weights[fold != k])
        out = fold == k
        for i, ridge in enumerate(RIDGES):
            offset, matrix = solution(ridge)
            errors[i] += (weights[out, None] * (residual[out] - offset - u[out] @ matrix).square()).sum()
    unit = float(weights.sum()) * u.shape[1]
    before = float((weights[:, None] * residual.square()).sum()) / unit
    best = int(errors.argmin())
    error = float(errors[best]) / unit
    if not error < before:
        return None
    offset, matrix = _solve(u, residual, weights)(RIDGES[best])
    return ScoreCorrection(offset, matrix, error, before, RIDGES[best])
