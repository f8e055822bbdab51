"""How far towards its model a flow may go in one round.

In the metric of the flow, where it is close to N(0, I), let r(u) be the gap between the model's
score and its own. On the geometric path q^(1-b) p^b the score of a draw changes by b r(u). With the
regression r(u) = c - K u + s(u), the affine part moves the draw by

    d(u) = b (I + b K)^{-1} (c - K u),

because K also bends the path: where the posterior is a thousand times narrower than the flow, r is
a thousand times larger than any move. For what is not affine nothing of the kind is known, and b
s(u) counts as it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["reachable"]

SOFTEST = 0.1  # smallest 1 + b k: where the model is wider than the flow, or no density at all
HALVINGS = 20


def reachable(
    u: Float[Tensor, "n dimension"], gap: Float[Tensor, "n dimension"], reach: float
) -> float:
    """The largest b, at most 1, for which draws move by at most `reach`, root mean square per
    unknown.

    Arguments:
        u: draws of the flow in its own metric.
        gap: r(u).
        reach: the largest root mean square of the moves.
    """
    u, gap = (u - u.mean(0)).double(), gap.double()
    if len(u) >= 2 * u.shape[1]:
        slope = torch.linalg.solve(u.T @ u, u.T @ (gap - gap.mean(0)))
        stiffness, directions = torch.linalg.eigh(-(slope + slope.T) / 2)
        u, gap = u @ directions, gap @ directions
    else:
        stiffness = -(u * gap).sum(0) / u.square().sum(0)
    affine = gap.mean(0) - u * stiffness
    square, rest = affine.square().mean(0), (gap - affine).square().mean()

    def moved(b: float) -> float:
        return b * float(
            (square / (1 + b * stiffness).clamp(min=SOFTEST).square()).mean().add(rest).sqrt()
        )

    low, high = 0.0, 1.0
    if moved(high) <= reach:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle) <= reach else (low, middle)
    return low
