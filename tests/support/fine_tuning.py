"""Fine-tuning in tests: the loop without its files, a monitor that measures nothing, and the
distance to an exact posterior.
"""

from __future__ import annotations

from typing import Any

import torch

from pflow.flows.base import Flow
from pflow.objectives.target_objective import TargetObjective
from pflow.problems.base import ExactPosterior

__all__ = ["NoMonitor", "divergence", "fine_tune"]


class NoMonitor:
    """A monitor of the training loop that measures nothing."""

    criterion, patience = None, 0

    def mark(self, objective: Any) -> int:
        return 0

    def measure(self, flow: Flow) -> dict[str, float]:
        return {}


def fine_tune(
    flow: Flow, objective: TargetObjective, generator: torch.Generator | None = None
) -> None:
    """Adam with the objective's own schedule of the step size, until the objective is finished."""
    generator = generator or torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(flow.parameters(), 2e-3, betas=(0.9, 0.99))
    while not objective.begin(flow, generator):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * objective.learning_rate_factor
        optimiser.zero_grad()
        objective.loss(flow, generator)[0].backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
        optimiser.step()


@torch.no_grad()
def divergence(flow: Flow, exact: ExactPosterior, y: torch.Tensor, n: int = 4000) -> float:
    """KL(q || p(x given y)) in nats, by `n` draws of the flow."""
    x, log_q = flow.sample_with_log_prob(y, n, torch.Generator().manual_seed(5))
    return float((log_q - exact.log_density(x)).mean())
