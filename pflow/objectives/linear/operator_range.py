r"""A linear F, learnt exactly from evaluations: the span of the data seen so far, and what the
adjoint makes of it.

In whitened data (noise of covariance I), around the first point x_0 that was evaluated, an
evaluation at x_i tells

    b_i = w_i - w_0 = J (x_i - x_0)            from the predicted data
    h_i = J^T b_i = g_0 - g_i                  from the gradients g_i of the log-likelihood

With an orthonormal basis Q of the b_i, J^T Q follows from the h_i, and

    J_n = Q (J^T Q)^T = Q Q^T J

is J in all directions of the data that were seen: J itself from rank(J) + 1 evaluations on, for any
points in general position. This is the randomised range finder, with products that the gradients
contain already. What a new point has beside Q is the error of its prediction, before it is learnt.

References:
    | Finding structure with randomness (Halko, Martinsson, Tropp, SIAM Review 2011), section 4
    | https://arxiv.org/abs/0909.4061
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["OperatorRange", "why_range_too_large"]

SMALL = 1e-5  # of the largest singular value of the data, below which a direction is rounding


class OperatorRange:
    """Q and J^T Q of the module, in float64; each batch of evaluations extends them.

    Arguments:
        observed: the whitened observation, (m,).

    Attributes:
        point, data, gradient: x_0 (D,), w_0 (m,) and g_0 (D,); empty before the first evaluation.
        basis: Q, (m, k).
        adjoint: J^T Q, (D, k).
        residual: Q^T (observed - w_0), (k,).
        error: of the newest batch before it was learnt, in noise standard deviations (root mean
            square); None before the second batch.
    """

    def __init__(self, observed: Tensor) -> None:
        self.observed = observed
        nothing = torch.empty(0, dtype=torch.float64)
        self.point = self.data = self.gradient = nothing
        self.basis = self.adjoint = nothing[:, None]
        self.residual = nothing
        self.error: float | None = None
        self._largest = 0.0

    @property
    def rank(self) -> int:
        """k."""
        return self.basis.shape[1] if len(self.point) else 0

    def learn(self, x: Tensor, w: Tensor, gradient: Tensor) -> None:
        """Extend Q and J^T Q.

        Arguments:
            x: points, (batch, D).
            w: their whitened data, (batch, m).
            gradient: of the log-likelihood by x, (batch, D).
        """
        first = not len(self.point)
        if first:
            self.point, self.data, self.gradient = x[0], w[0], gradient[0]
            self.basis, self.adjoint = w.new_empty(w.shape[1], 0), x.new_empty(x.shape[1], 0)
            x, w, gradient = x[1:], w[1:], gradient[1:]
        data, products = (w - self.data).T, (self.gradient - gradient).T
        inside = self.basis.T @ data
        rest = data - self.basis @ inside
        again = self.basis.T @ rest  # twice is enough for an orthogonal basis
        inside, rest = inside + again, rest - self.basis @ again
        if not first:
            self.error = float(rest.square().mean().sqrt())
        if rest.shape[1]:
            self._extend(rest, products - self.adjoint @ inside)

    def _extend(self, rest: Tensor, products: Tensor) -> None:
        """By data orthogonal to Q, (m, batch), and J^T of them, (D, batch)."""
        squares, vectors = torch.linalg.eigh(rest.T @ rest)
        self._largest = max(self._largest, float(squares[-1]))
        seen = squares > SMALL**2 * self._largest
        turned = vectors[:, seen] / squares[seen].sqrt()
        new = rest @ turned
        self.residual = torch.cat([self.residual, new.T @ (self.observed - self.data)])
        self.basis = torch.cat([self.basis, new], 1)
        self.adjoint = torch.cat([self.adjoint, products @ turned], 1)

    @property
    def error_nats(self) -> float:
        """What the error of the data is worth in the log-likelihood of a draw; infinite before it
        is known.
        """
        if self.error is None:
            return math.inf
        return 0.5 * self.error**2 * len(self.data)

    def state_dict(self) -> dict[str, Any]:
        """All attributes."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        vars(self).update(state)


def why_range_too_large(evaluations: int, parameters: int, data: int, limit: float) -> str:
    """Why Q and J^T Q do not fit into `limit` GB, twice while they grow; empty where they do."""
    needed = 2 * 8 * min(evaluations, parameters, data) * (parameters + data) / 1e9
    if needed <= limit:
        return ""
    return (
        f"with {data} data, {parameters} parameters and {evaluations} evaluations a model of F"
        f" takes about {needed:.2g} GB, and `memory_gb` is {limit:g}"
    )
