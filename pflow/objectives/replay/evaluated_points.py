"""All valid evaluations of a run, flattened; each round adds its points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pflow.inference.evaluation import Evaluation

__all__ = ["Evaluated"]


@dataclass(frozen=True)
class Evaluated:
    """n points of D parameters.

    Attributes:
        points: x_i, (n, D).
        scores: g(x_i), (n, D).
        values: log likelihood at x_i, (n,).
        seen: the sources of each point, 1 or 0, (n, S); None for all.
    """

    points: Tensor
    scores: Tensor
    values: Tensor
    seen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of(cls, drawn: Evaluation, seen: Tensor | None) -> Evaluated:
        """The valid ones of evaluated points; `seen` belongs to all of them."""
        valid = drawn.valid
        x = drawn.x[valid].flatten(1)
        score = drawn.score[valid].flatten(1).to(x)
        return cls(x, score, drawn.log_likelihood[valid], None if seen is None else seen[valid])

    def followed_by(self, later: Evaluated) -> Evaluated:
        """The points of both."""
        seen = None
        if self.seen is not None and later.seen is not None:
            seen = torch.cat([self.seen, later.seen])
        return Evaluated(
            torch.cat([self.points, later.points]),
            torch.cat([self.scores, later.scores]),
            torch.cat([self.values, later.values]),
            seen,
        )
