"""Results and costs of evaluations of the unnormalised posterior.

One evaluation = one forward of the high-fidelity operator *with* its gradient, for one x.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["STORED_FIELDS", "Evaluation", "Ledger"]

STORED_FIELDS = (
    "x",
    "score",
    "log_likelihood",
    "log_prior",
    "prediction",
)  # of the store, in an evaluation


@dataclass(frozen=True)
class Evaluation:
    """A batch of evaluated points.

    Attributes:
        x: points, (batch, *model).
        log_likelihood: log p(y_obs given x), (batch,).
        log_prior: log p(x), (batch,).
        score: grad_x log p~(x), (batch, *model).
        valid: points whose value and score are finite, (batch,); the value of the likelihood where
            the prior was not asked.
        prediction: F(x), (batch, *data); with random sources, y_obs where x has not seen them.
    """

    x: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    score: Tensor
    valid: Tensor
    prediction: Tensor

    @classmethod
    def from_rows(
        cls, rows: dict[str, np.ndarray], device: torch.device, prior: bool = True
    ) -> Evaluation:
        """Rows of a store on `device`; without `prior` of the likelihood alone."""
        value, score = rows["log_likelihood"], rows["score"]
        value = value + rows["log_prior"] if prior else value
        finite = np.isfinite(value) & np.isfinite(score).reshape(len(score), -1).all(1)
        stored = {name: torch.from_numpy(rows[name]).to(device) for name in STORED_FIELDS}
        return cls(**stored, valid=torch.from_numpy(finite).to(device))

    @property
    def log_density(self) -> Tensor:
        """log p~(x), (batch,)."""
        return self.log_likelihood + self.log_prior

    def followed_by(self, later: Evaluation) -> Evaluation:
        """Both batches as one."""
        return Evaluation(
            *(
                torch.cat(pair)
                for pair in zip(vars(self).values(), vars(later).values(), strict=True)
            )
        )


@dataclass
class Ledger:
    """The count of evaluations and forwards.

    Attributes:
        points: those whose value and gradient this run has requested.
        recalled: those among them that were read from the store of evaluations, without a call of
            the operator.
        checked: recalled points that were evaluated again, to see whether they still hold.
        forwards: points evaluated without a gradient.
        invalid: points that were NaN or infinite.
        seconds: time in the operator.
        rows: of the store, for every point, in the order of requests.
        share: evaluations that a point costs: 1, or k / S with random subsets of sources.
    """

    points: int = 0
    recalled: int = 0
    checked: int = 0
    forwards: int = 0
    invalid: int = 0
    seconds: float = 0.0
    rows: list[np.ndarray] = field(default_factory=list)
    share: float = 1.0

    @property
    def evaluations(self) -> int | float:
        """The cost of the points."""
        return self.cost(self.points)

    @property
    def asked(self) -> np.ndarray:
        """Rows of the store of all points, in the order of requests."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self.rows])

    def cost(self, points: int) -> int | float:
        """The cost of a number of points in evaluations; an int if it is whole."""
        exact = round(points * self.share, 9)
        return int(exact) if exact == int(exact) else exact

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and a tensor, for a checkpoint."""
        return vars(self) | {"rows": torch.from_numpy(self.asked)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the count of `state`."""
        vars(self).update(state | {"rows": [state["rows"].numpy()]})
