"""An operator-free model of the log-likelihood, from points that have been evaluated.

In the whitened coordinates u of a `Metric`, with the affine model S^T grad log L ~ b + A u of the
likelihood's score that `ScoreModel` has fitted on the way,

    log L^(x) = k + b.u + u^T A u / 2 + r(u),        r(u) = sum_i c_i exp(-|u - u_i|^2 / (2 l^2))

where A is made symmetric and concave, so that it can be followed far from the points, and r is the
kernel ridge fit of what the quadratic leaves of the evaluated values. With the prior, which needs
no operator either, it is a model of the whole posterior: it tells without an evaluation whether a
change of the flow was for the better, and where else mass could be.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.objectives.replay.score_model import Metric, bump

__all__ = ["LikelihoodModel"]

LENGTHS = (0.25, 0.5, 1.0, 2.0)  # in units of sqrt(D)
RIDGES = (1e-4, 1e-2, 1.0)
MOST_POINTS = 1500  # newest ones that the correction r is fitted to


class LikelihoodModel:
    """log L^ of the module.

    Arguments:
        points, values: x_i, (n, D), and log L(x_i), (n,).
        metric: S and mu.
        slope, offset: A^T and b of the affine score model.

    Attributes:
        error: leave-one-out standard deviation of the values, in nats.
    """

    def __init__(
        self,
        points: Float[Tensor, "n dimension"],
        values: Float[Tensor, " n"],
        metric: Metric,
        slope: Tensor,
        offset: Tensor,
    ) -> None:
        self.metric, self.offset = metric, offset.double()
        eigenvalues, vectors = torch.linalg.eigh((slope + slope.T).double() / 2)
        self.curvature = (vectors * eigenvalues.clamp(max=0)) @ vectors.T
        points, values = points[-MOST_POINTS:], values[-MOST_POINTS:].double()
        self.inputs = metric.whiten(points)
        rest = values - self._quadratic(self.inputs)
        self.constant = rest.median()
        rest = rest - self.constant
        self.error, self.length, self.coefficients = (
            float(rest.square().mean().sqrt()),
            0.0,
            torch.zeros_like(rest),
        )
        for factor in LENGTHS:
            length = factor * math.sqrt(points.shape[1])
            eigen, basis = torch.linalg.eigh(bump(self.inputs, self.inputs, length).double())
            rotated = basis.T @ rest
            for ridge in RIDGES:
                inverse = 1 / (eigen.clamp(min=0) + ridge)
                solution = basis @ (inverse * rotated)
                left_out = solution / (basis.square() @ inverse)
                error = float(left_out.square().mean().sqrt())
                if error < self.error:
                    self.error, self.length, self.coefficients = error, length, solution

    def log_likelihood(self, x: Float[Tensor, "batch dimension"]) -> Float[Tensor, " batch"]:
        """log L^(x), in float64. Calls no operator."""
        u = self.metric.whiten(x)
        value = self.constant + self._quadratic(u)
        if self.length:
            value = value + bump(u, self.inputs, self.length).double() @ self.coefficients
        return value

    def _quadratic(self, u: Tensor) -> Tensor:
        u = u.double()
        return u @ self.offset + 0.5 * ((u @ self.curvature) * u).sum(1)
