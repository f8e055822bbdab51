r"""The posterior mode, by Gauss-Newton steps whose Jacobian is learnt from the evaluations
themselves.

At the best point the value and the gradient are exact (where F has no gradient, it is that of the
model); the Jacobian J = J_low + A is that of the
model fitted around it (`Evaluated.fit_around`), which takes up what each step has told. A step
maximises the quadratic model in a trust region,

    s = (I + J^T J + lambda I)^{-1} g,     |s| <= radius,

costs one evaluation, and changes the radius by the ratio of gained and predicted log density.
Structured quasi-Newton methods for least squares do the same with less: Dennis, Gay, Welsch, "An
adaptive nonlinear least-squares algorithm" (ACM TOMS, 1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.operator_model import LowFidelity

__all__ = ["ModeSearch"]

POOR, GOOD = 0.25, 0.75
NEAR = 0.3  # nats of predicted gain at which the mode is near enough for posterior draws


@dataclass(frozen=True)
class ModeSearch:
    """State of the search.

    Attributes:
        radius: of the trust region, in prior standard deviations.
        finished: whether the predicted gain is small.
    """

    radius: float
    finished: bool = False
    predicted: float = math.inf

    @classmethod
    def start(cls, size: int) -> ModeSearch:
        return cls(max(1.0, 0.3 * math.sqrt(size)))

    def propose(self, evaluated: Evaluated, low: LowFidelity) -> tuple[Tensor, float]:
        """The next point, (1, D), and the gain in log density that the model predicts there."""
        best = evaluated.best()
        v = evaluated.v[best]
        jacobian = low.jacobian(v) + evaluated.fit_around(best).matrix()
        values, vectors = torch.linalg.eigh(
            torch.eye(len(v), dtype=torch.float64) + jacobian.T @ jacobian
        )
        gradient = evaluated.gradient[best]
        if not evaluated.pulled.any():
            gradient = low.data.pull(low.data.observed - evaluated.w[[best]])[0] @ jacobian
        score = vectors.T @ (gradient + low.model.prior_score(v[None])[0])
        step = _bounded(score, values, self.radius)
        predicted = float((score * step).sum() - 0.5 * (values * step.square()).sum())
        return (v + vectors @ step)[None], predicted

    def judge(self, predicted: float, gained: float, length: float) -> ModeSearch:
        """The search after a step of that length gained so many nats."""
        ratio = gained / max(predicted, 1e-9)
        radius = self.radius
        if not ratio >= POOR:
            radius = 0.35 * length
        elif ratio > GOOD:
            radius = max(radius, 2 * length)
        near = predicted < NEAR and ratio > 0.1
        return replace(
            self, radius=radius, finished=near or predicted < NEAR / 6, predicted=predicted
        )


def _bounded(score: Tensor, values: Tensor, radius: float) -> Tensor:
    """The maximiser of score . s - s . diag(values) s / 2 with |s| <= radius."""
    step = score / values
    if float(step.norm()) <= radius:
        return step
    low, high = 0.0, float(score.norm() / radius)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float((score / (values + middle)).norm()) > radius:
            low = middle
        else:
            high = middle
    return score / (values + high)
