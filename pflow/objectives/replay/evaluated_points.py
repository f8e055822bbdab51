"""All valid evaluations of a run, flattened; each round adds its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pflow.inference.evaluation import Evaluation

__all__ = ["Evaluated"]


@dataclass
class Evaluated:
    """n points of D parameters.

    Attributes:
        points: x_i, (n, D).
        scores: g(x_i), (n, D).
        values: log likelihood at x_i, (n,).
        seen: the sources of each point, 1 or 0, (n, S); None for all.
    """

    points: Tensor | None = None
    scores: Tensor | None = None
    values: Tensor | None = None
    seen: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.points is None else len(self.points)

    def add(self, drawn: Evaluation, seen: Tensor | None) -> None:
        """The valid ones of freshly evaluated points; `seen` belongs to all of them."""
        valid = drawn.valid
        x = drawn.x[valid].flatten(1)
        new = (
            x,
            drawn.score[valid].flatten(1).to(x),
            drawn.log_likelihood[valid],
            None if seen is None else seen[valid],
        )
        for name, more in zip(vars(self), new, strict=True):
            before = getattr(self, name)
            setattr(self, name, more if before is None else torch.cat([before, more]))

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        vars(self).update(state)
