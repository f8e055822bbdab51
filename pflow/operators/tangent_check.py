"""The check of `jvp`, the derivative J(x) d in a direction d.

with a gradient      <J(c) d, w> = <d, J(c)^T w>
without one          (F(c + h d) - F(c - h d)) / 2h -> J(c) d
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.batch_norms import dot, ratio, unit
from pflow.operators.call_checks import CheckedOperator

__all__ = ["check_tangent"]


def check_tangent(
    operator: CheckedOperator,
    x: Tensor,
    random: Callable[..., Tensor],
    steps: Sequence[float],
    tolerance: float,
) -> float:
    """The relative error of `jvp`, against the gradient where there is one, otherwise against
    finite differences, along the lines between models of the prior.

    Arguments:
        operator: with `jvp`.
        x: different models, (batch, *model); the median over the batch counts.
        random: makes standard normal tensors of a shape.
        steps: sizes h of finite differences, of which the best counts.
        tolerance: largest relative error.

    Raises:
        PflowError: the error is larger.
    """
    other = x.roll(1, 0)
    c, d = (x + other) / 2, (other - x) / 2
    tangent = operator.jvp(c, d)
    if operator.differentiable:
        w = unit(tangent) + unit(random(*tangent.shape))  # errors of scale stay visible
        left, right = dot(tangent, w), dot(d, operator.vjp(c, w))
        error, rule = ratio(left - right, _norm(tangent) * _norm(w)), "<J d, w> = <d, J^T w>"
    else:
        slopes = [
            (operator.forward(c + h * d) - operator.forward(c - h * d)) / (2 * h) for h in steps
        ]
        missed = torch.stack([_norm(slope - tangent) / _norm(slope) for slope in slopes])
        error, rule = missed.nan_to_num().amin(0).median().item(), "finite differences"
    if error > tolerance:
        raise PflowError(
            f"`{operator.name}.jvp` must be the derivative of `forward` in a direction d, J(x) d,"
            f" and it misses {rule} by {error:.1e} (relative): differentiate every step of"
            " `forward` in its order"
        )
    return error


def _norm(values: Tensor) -> Tensor:
    return dot(values, values).sqrt()
