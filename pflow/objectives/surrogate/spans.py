r"""The directions that weighted vectors span, and a metric made of them.

    K = (1 - e) D sum_i h_i h_i^T / sum_i |h_i|^2  +  e I,      R = K^{1/2}

Gradients of a smooth operator are smooth: those at hand say in which directions of the parameters
the others will be large. K is their second moment, scaled to a mean eigenvalue of 1, and e, a
tenth, is left for the directions that none has shown yet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Span", "Stretch"]

SMALL = 1e-10  # relative eigenvalue below which a direction counts as not seen
# e: with 33 to 440 evaluations of `traveltime` .03 and .1 were alike, .3 was worse, 1 much worse.
EVEN = 0.1


class Span:
    """Orthonormal basis of the rows of a matrix and its squared singular values.

    Arguments:
        rows: (n, size).

    Attributes:
        squares: singular values, squared, (k,).
        left: left singular vectors, (n, k).
        basis: right singular vectors, (size, k).
    """

    def __init__(self, rows: Tensor) -> None:
        gram = rows @ rows.T
        values, vectors = torch.linalg.eigh(gram)
        kept = values > SMALL * max(float(values[-1]), 1e-300) if len(values) else values > 0
        self.squares = values[kept]
        self.left = vectors[:, kept]
        self.basis = (rows.T @ self.left) / self.squares.sqrt()


class Stretch:
    """R of the module and its inverse, applied to rows, in O(n D) for each.

    Arguments:
        rows: h_i, weighted, (n, D); without any that is not zero, R is I.
    """

    def __init__(self, rows: Tensor) -> None:
        span = Span(rows)
        squares = rows.shape[1] * span.squares / span.squares.sum()
        self.basis, self.roots = span.basis, ((1 - EVEN) * squares + EVEN).sqrt()
        self.rest = math.sqrt(EVEN) if len(squares) else 1.0

    def __call__(self, rows: Tensor) -> Tensor:
        """rows R, (batch, D), differentiable."""
        return self.rest * rows + ((rows @ self.basis) * (self.roots - self.rest)) @ self.basis.T

    def undo(self, rows: Tensor) -> Tensor:
        """rows R^{-1}, (batch, D)."""
        inside = (rows @ self.basis) * (1 / self.roots - 1 / self.rest)
        return rows / self.rest + inside @ self.basis.T
