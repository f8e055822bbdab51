"""An operator-free model of the score g(x) = grad log p~(x), from points that have been evaluated.

With mu and C = S S^T the mean and covariance of the flow at the start of a round, u = S^{-1} (x -
mu), and a base score b(x) that needs no operator, the model is

    g^(x) = b(x) + S^{-T} f(u),        f(u) = sum_i k(u, u_i) a_i,        k(u, v) = D + u.v + c
                                       exp(-|u - v|^2 / (2 l^2)), c = 0 or 1;

the constant is as large as |u|^2, or the ridge would shrink the mean of the residual, which is most
of it in 1024-D.

f is the kernel ridge fit of S^T (g(x_i) - b(x_i)): affine (a quasi-Newton model, exact for
Gaussians after D + 1 points, least-norm before) plus a smooth correction. Point i has noise
variance lambda / w_i with w_i = min(1, D / |u_i|^2)^2, so that points the flow has left behind
count less. Base, kernel and lambda are those with the smallest leave-one-out error, sum_i w_i
|f(u_i) - f_{-i}(u_i)|^2, which costs nothing beyond the fit.

Random subsets. Where point i has seen the sources B_i alone, k of S, its score is that of (S / k)
sum_{s in B_i}, and noisy as an estimate of the sum over all S. But B_i is known: with f = sum_s
f_s, the f_s independent and each of kernel k / S, two such estimates have the covariance k(u_i,
u_j) S |B_i and B_j| / k^2, and one of them has k(u, u_i) with the whole sum. So the Gram matrix
alone changes, and nothing is noise: what a subset leaves out, the model has learnt from others. The
error of the sum is that of an estimate times k / S.

References:
    | Batch and match (Cai et al., 2024), https://arxiv.org/abs/2402.14758
    | Control functionals (Oates et al., 2017), https://arxiv.org/abs/1410.2392
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DENSE", "Metric", "ScoreModel", "bump"]

RIDGES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
LENGTHS = (0.5, 1.0, 2.0, 4.0)  # in units of sqrt(D), the typical |u|
# Beyond, an eigendecomposition takes a second: only the kernel lengths that won in the studies
# remain
FEW_POINTS = 600
# Unknowns; beyond, S is diagonal: with 1024, a dense one took twice the evaluations
# (docs/methods.md), and its memory grows with D^2
DENSE = 512
COLLAPSED = 1024  # unknowns up to which the affine part is kept as a matrix

Score = Callable[[Tensor], Tensor]


class Metric:
    """u = S^{-1} (x - mu) with mu and S S^T the moments of `draws`, (n, D)."""

    def __init__(self, draws: Float[Tensor, "n dimension"]) -> None:
        self.mean = draws.mean(0)
        variance = draws.double().var(0)
        floor = 1e-6 * variance.mean()
        if draws.shape[1] <= DENSE:
            covariance = torch.atleast_2d(torch.cov(draws.double().T))
            factor = torch.linalg.cholesky(
                covariance
                + floor * torch.eye(len(covariance), dtype=torch.float64, device=draws.device)
            )
            inverse = torch.linalg.solve_triangular(
                factor,
                torch.eye(len(factor), dtype=torch.float64, device=draws.device),
                upper=False,
            )
        else:
            factor = (variance + floor).sqrt()
            inverse = 1 / factor
        self.factor, self.inverse = factor.to(draws), inverse.to(draws)

    def whiten(self, x: Tensor) -> Tensor:
        """u = S^{-1} (x - mu)."""
        return (
            (x - self.mean) * self.inverse
            if self.inverse.ndim == 1
            else (x - self.mean) @ self.inverse.T
        )

    def pull(self, score: Tensor) -> Tensor:
        """S^T g: a score in whitened coordinates, free of units."""
        return score * self.factor if self.factor.ndim == 1 else score @ self.factor

    def push(self, score: Tensor) -> Tensor:
        """S^{-T} f: back from whitened coordinates."""
        return score * self.inverse if self.inverse.ndim == 1 else score @ self.inverse

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors."""
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Metric:
        """The metric that `state` was taken of."""
        self = cls.__new__(cls)
        vars(self).update(state)
        return self


class ScoreModel:
    """g^(x) of the module, fitted to `points` and `scores`, both (n, D).

    Arguments:
        metric: S and mu.
        bases: operator-free scores b to choose from, by name; the Gaussian with the metric's
            moments is always among them, and "flow" is what errors are compared with.
        seen: which sources each point has seen, 1 or 0, (n, S); None where all have seen all.

    Attributes:
        flow_error: mean of |S^T (g - grad log q)|^2 / D, the error of the flow itself.
        error: leave-one-out error of the model in the same unit.
        choice: base, kernel length (0 without the smooth part) and ridge.
        likelihood: coefficients a_i of the best affine model alone of S^T (g - grad log prior), the
            score of the likelihood.
    """

    def __init__(
        self,
        points: Tensor,
        scores: Tensor,
        metric: Metric,
        bases: Mapping[str, Score],
        seen: Tensor | None = None,
    ) -> None:
        self.metric = metric
        self.bases = {"gaussian": lambda x: -metric.push(metric.whiten(x)), **bases}
        self.inputs = metric.whiten(points)
        count, dimension = points.shape
        weights = (dimension / self.inputs.double().square().sum(1)).clamp(max=1.0).square()
        root = weights.sqrt()[:, None]
        residuals = {
            name: root * metric.pull(scores - base(points)).double()
            for name, base in self.bases.items()
        }
        unit = weights.sum() * dimension
        self.flow_error = float(residuals["flow"].square().sum() / unit)

        self.error = likelihood_error = math.inf
        lengths = LENGTHS if count <= FEW_POINTS else LENGTHS[2:3]
        for length in (0.0, *(factor * math.sqrt(dimension) for factor in lengths)):
            kernel = root * _kernel(self.inputs, self.inputs, length).double() * root.T
            if seen is not None:
                kernel = kernel * _common(seen)
            values, vectors = torch.linalg.eigh(kernel)
            values, squares = values.clamp(min=0), vectors.square()
            for name, residual in residuals.items():
                rotated = vectors.T @ residual
                for ridge in RIDGES:
                    inverse = 1 / (values + ridge)
                    solution = vectors @ (inverse[:, None] * rotated)
                    left_out = solution / (squares @ inverse)[:, None]
                    error = float(left_out.square().sum() / unit)
                    if error < self.error:
                        self.error, self.choice = error, (name, length, ridge)
                        self.coefficients = (root * solution).to(points)
                    if name == "prior" and not length and error < likelihood_error:
                        likelihood_error, self.likelihood = error, root * solution
        self._collapse()
        if seen is not None:
            self.error *= float(seen.double().mean())
            gap = root * metric.pull(self.score(points) - self.bases["flow"](points)).double()
            self.flow_error = float(gap.square().sum() / unit) + self.error

    def likelihood_affine(self) -> tuple[Tensor, Tensor]:
        """Slope A^T and offset b of the likelihood's score in whitened coordinates, b + u A^T."""
        return self.inputs.to(self.likelihood).T @ self.likelihood, self.inputs.shape[
            1
        ] * self.likelihood.sum(0)

    def score(self, x: Float[Tensor, "batch dimension"]) -> Float[Tensor, "batch dimension"]:
        """g^(x). Calls no operator."""
        name, length, _ = self.choice
        u = self.metric.whiten(x)
        if self.slope is not None:
            f = u @ self.slope + self.offset
        else:
            f = (u @ self.inputs.T) @ self.coefficients + self.offset
        if length:
            f = f + bump(u, self.inputs, length) @ self.coefficients
        return self.bases[name](x) + self.metric.push(f)

    def _collapse(self) -> None:
        """The affine part as one matrix, where that is smaller than the points: its cost then no
        longer grows with them.
        """
        count, dimension = self.inputs.shape
        self.slope = (
            self.inputs.T @ self.coefficients if dimension <= max(COLLAPSED, count) else None
        )
        self.offset = dimension * self.coefficients.sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers; the bases are given again on loading."""
        return {
            "metric": self.metric.state_dict(),
            "inputs": self.inputs,
            "coefficients": self.coefficients,
            "likelihood": self.likelihood,
            "choice": list(self.choice),
            "errors": [self.flow_error, self.error],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], bases: Mapping[str, Score]) -> ScoreModel:
        """The model that `state` was taken of."""
        self = cls.__new__(cls)
        self.metric = Metric.from_state_dict(state["metric"])
        self.bases = {"gaussian": lambda x: -self.metric.push(self.metric.whiten(x)), **bases}
        self.inputs, self.coefficients, self.likelihood = (
            state["inputs"],
            state["coefficients"],
            state["likelihood"],
        )
        self.choice = tuple(state["choice"])
        self.flow_error, self.error = state["errors"]
        self._collapse()
        return self


def bump(u: Tensor, v: Tensor, length: float) -> Tensor:
    """exp(-|u - v|^2 / (2 length^2)) for all pairs of rows."""
    # differences rather than inner products in low dimension: cancellation would show there
    mode = "donot_use_mm_for_euclid_dist" if u.shape[1] < 8 else "use_mm_for_euclid_dist"
    return torch.exp(-torch.cdist(u, v, compute_mode=mode).square() / (2 * length**2))


def _common(seen: Tensor) -> Tensor:
    """S |B_i and B_j| / (|B_i| |B_j|)."""
    rows = seen.double() / seen.double().sum(1, keepdim=True)
    return seen.shape[1] * rows @ rows.T


def _kernel(u: Tensor, v: Tensor, length: float) -> Tensor:
    affine = u.shape[1] + u @ v.T
    return affine + bump(u, v, length) if length else affine
