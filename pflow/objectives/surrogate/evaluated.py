"""What evaluations of F have told, in whitened coordinates, beside what F_low says at the same
points.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pflow.objectives.surrogate.affine import AffineDelta, Hyperparameters
from pflow.objectives.surrogate.kernel import KernelDelta
from pflow.objectives.surrogate.operator_model import LowFidelity

__all__ = ["REACHED", "Evaluated"]

REACHED = 1e-8  # weight below which a point takes no part
# nats per parameter and datum below the best point, beyond which a point is out of the way
DEEP = 2.0

# Of a fit around one point: relative error of F at the point itself, its growth with the distance,
# and tau.
EXACT, GROWTH, CHANGE = 0.003, 0.1, 1.0


@dataclass(frozen=True)
class Evaluated:
    """n valid evaluations.

    Attributes:
        v: points, (n, D).
        w: F there, (n, m).
        gradient: of the log-likelihood in v, J^T r, (n, D); zero where no gradient is known.
        pulled: r, the gradient of the log-likelihood in w, (n, m); zero where no gradient is known.
        log_density: log p~, but for a constant of the coordinates, (n,).
        low: F_low there, (n, m).
        low_gradient: J_low^T r, (n, D).
    """

    v: Tensor
    w: Tensor
    gradient: Tensor
    pulled: Tensor
    log_density: Tensor
    low: Tensor
    low_gradient: Tensor

    @classmethod
    def none(cls, parameters: int, data: int) -> Evaluated:
        """Before the first evaluation."""
        points, predictions = (
            torch.zeros(0, size, dtype=torch.float64) for size in (parameters, data)
        )
        return cls(points, predictions, points, predictions, points[:, 0], predictions, points)

    @classmethod
    def at(
        cls,
        v: Tensor,
        w: Tensor,
        gradient: Tensor,
        pulled: Tensor,
        log_density: Tensor,
        fidelity: LowFidelity,
    ) -> Evaluated:
        """With what F_low says at the same points."""
        if fidelity.linear:
            low_gradient = pulled @ fidelity.jacobian(torch.zeros_like(v[:1].sum(0)))
            return cls(v, w, gradient, pulled, log_density, fidelity(v), low_gradient)
        with torch.enable_grad():
            points = v.detach().requires_grad_()
            low = fidelity(points)
            (low_gradient,) = torch.autograd.grad((low * pulled).sum(), points)
        return cls(v, w, gradient, pulled, log_density, low.detach(), low_gradient)

    def __len__(self) -> int:
        return len(self.v)

    def __add__(self, other: Evaluated) -> Evaluated:
        return Evaluated(
            *(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )

    def take(self, chosen: Tensor) -> Evaluated:
        """Some of the points."""
        return Evaluated(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def beside(self, fidelity: LowFidelity) -> Evaluated:
        """The same without F_low, where `fidelity` is zero."""
        if fidelity.operator is not None:
            return self
        nothing = torch.zeros_like(self.low), torch.zeros_like(self.low_gradient)
        return replace(self, low=nothing[0], low_gradient=nothing[1])

    @property
    def _products(self) -> tuple[Tensor, Tensor]:
        length = self.pulled.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return self.pulled / length, (self.gradient - self.low_gradient) / length

    def best(self) -> int:
        """The point of largest posterior density."""
        return int(self.log_density.argmax())

    def weights(self, distance: Tensor) -> Tensor:
        """Of the points, (n,): 1 near the posterior.

        Arguments:
            distance: mean square of each point in posterior standard deviations, (n,).
        """
        depth = self.log_density.max() - self.log_density
        depth = depth / (DEEP * (self.v.shape[1] + self.w.shape[1]))
        weights = 1 / (distance.clamp(min=1) * depth.clamp(min=1)).square()
        return weights if (weights > REACHED).any() else torch.ones_like(weights)

    def fit(self, weights: Tensor, directed: bool = False) -> AffineDelta:
        """delta over the region that the weights describe; `directed` as in `affine`."""
        points, values, directions, products, weights = self._learnt(weights)
        return AffineDelta(
            points,
            values,
            directions,
            products,
            weights,
            use_products=bool(directions.any()),
            directed=directed,
        )

    def fit_kernel(self, weights: Tensor) -> KernelDelta:
        """The same with interactions of parameters."""
        points, values, directions, products, weights = self._learnt(weights)
        return KernelDelta(points, values, directions, products, weights)

    def _learnt(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Points, values, directions, products and weights of those that take part."""
        kept = weights > REACHED
        directions, products = self._products
        values = self.w - self.low
        return tuple(part[kept] for part in (self.v, values, directions, products, weights))

    def fit_around(self, index: int) -> AffineDelta:
        """delta near one point: exact there, with errors of the others that grow with the square of
        the distance.
        """
        distance = (self.v - self.v[index]).norm(dim=1)
        away = distance.clamp(min=1e-9)
        error = EXACT + GROWTH * away
        weights = torch.where(distance > 0, 1 / (away * error).square(), torch.zeros_like(away))
        directions, products = self._products
        return AffineDelta(
            self.v,
            self.w - self.low,
            directions,
            products,
            weights,
            hyperparameters=Hyperparameters(CHANGE, 1.0, 1.0),
            product_weights=1 / (EXACT + GROWTH * distance).square(),
            at=index,
        )
