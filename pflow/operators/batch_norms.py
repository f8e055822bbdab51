"""Inner products and norms of batches, summed in float64, for the checks of operators."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["dot", "ratio", "relative_error", "unit"]


def dot(a: Tensor, b: Tensor) -> Float[Tensor, " batch"]:
    """<a, b> of each member of a batch, summed in float64 so that the check itself does not
    round.
    """
    return (a.double() * b.double()).flatten(1).sum(1)


def unit(a: Tensor) -> Tensor:
    """Each member of a batch divided by its norm; zero stays zero."""
    norm = dot(a, a).sqrt().clamp_min(torch.finfo(a.dtype).tiny)
    return a / norm.to(a.dtype).reshape(-1, *[1] * (a.ndim - 1))


def ratio(difference: Tensor, scale: Tensor) -> float:
    """max |difference| / scale, and 0 / 0 = 0."""
    return torch.where(difference == 0, 0.0, difference.abs() / scale).max().item()


def relative_error(value: Tensor, reference: Tensor) -> float:
    """|value - reference| / |reference|, over the whole batch."""
    return ratio((value - reference).double().norm(), reference.double().norm())
