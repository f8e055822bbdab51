"""Fine-tuning in tests: by a method's settings as the stage does it, the loop without its files, a
monitor that measures nothing, and the distance to an exact posterior.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from pflow.config.methods import FinetuningSettings
from pflow.execution.progress import Progress
from pflow.finetuning.objectives import objective_of
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.target_objective import TargetObjective
from pflow.problems.base import ExactPosterior
from pflow.storage.checkpoint import Checkpoint
from pflow.training import TrainingState, train

__all__ = ["NoMonitor", "divergence", "fine_tune", "fine_tune_by_settings"]


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


def fine_tune_by_settings(
    flow: Flow, method: FinetuningSettings, target: Target, folder: Path, monitor: Any = None
) -> tuple[TargetObjective, TrainingState]:
    """The objective and optimiser of a method, with the checkpoint in `folder`."""
    objective, optimiser = objective_of(method, target)
    state = train(
        flow,
        objective,
        optimiser,
        generator=torch.Generator().manual_seed(0),
        monitor=monitor or NoMonitor(),
        checkpoint=Checkpoint(folder / "state.safetensors", "test"),
        progress=Progress("test", io.StringIO()),
    )
    return objective, state


@torch.no_grad()
def divergence(flow: Flow, exact: ExactPosterior, y: torch.Tensor, n: int = 4000) -> float:
    """KL(q || p(x given y)) in nats, by `n` draws of the flow."""
    x, log_q = flow.sample_with_log_prob(y, n, torch.Generator().manual_seed(5))
    return float((log_q - exact.log_density(x)).mean())
