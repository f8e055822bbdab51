"""Stage 1, amortised over y: minimise -E[log q_theta(x given y)] over pairs.

For a flow with a data lane (conditional HINT) the paper maximises the joint density of the pair, log q_theta(x given y)
+ log q_theta(y); each flow says which through `log_prob_pairs`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow

__all__ = ["MaximumLikelihood", "mean_negative_log_likelihood"]


class MaximumLikelihood:
    """-1/B sum_i log q_theta(x_i given y_i) over shuffled batches of B pairs.

    Arguments:
        x: models, (pairs, *model).
        y: data, (pairs, *data).
        batch: B; the last batch of an epoch is smaller where B does not divide the pairs.
        epochs: passes over the pairs.
    """

    def __init__(self, x: Tensor, y: Tensor, batch: int, epochs: int) -> None:
        self.x, self.y, self.batch, self.epochs = x, y, batch, epochs
        self.steps_per_epoch = -(-len(x) // batch)
        self.step = -1
        self.order = torch.empty(0, dtype=torch.long)
        self.stop_reason = ""

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        self.step += 1
        if self.step >= self.epochs * self.steps_per_epoch:
            self.stop_reason = f"all {self.epochs} epochs done"
            return True
        if self.step % self.steps_per_epoch == 0:
            self.order = torch.randperm(len(self.x), generator=generator)
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        first = (self.step % self.steps_per_epoch) * self.batch
        chosen = self.order[first : first + self.batch].to(self.x.device)
        return -flow.log_prob_pairs(self.x[chosen], self.y[chosen]).mean(), {}

    def fraction(self) -> float:
        return max(self.step, 0) / (self.epochs * self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """Epochs completed before the current step."""
        return self.step // self.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.order = state["step"], state["order"]


@torch.no_grad()
def mean_negative_log_likelihood(flow: Flow, x: Tensor, y: Tensor, batch: int = 4096) -> float:
    """-E[log q_theta] over held-out pairs, in batches."""
    total = sum(float(flow.log_prob_pairs(a, b).double().sum()) for a, b in zip(x.split(batch), y.split(batch), strict=True))
    return -total / len(x)
