"""What every objective offers to the one training loop.

Symbols, here and in the modules beside this one:

    x                   unknown model
    z = T_theta(x; y)   latent, N(0, I) under the flow
    q_theta             density of the flow
    p~(x)               unnormalised posterior density
    g(x)                grad_x log p~(x)
    n                   evaluations of F spent so far

The loop calls `begin`, then `loss`, then steps the optimiser, until `begin` says that the objective
is finished. An objective holds its own state explicitly and gives it away whole, so that a run
resumes bit for bit.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pflow.flows.base import Flow

__all__ = ["Objective"]


@runtime_checkable
class Objective(Protocol):
    """A loss over (flow, pairs) or (flow, target)."""

    stop_reason: str

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        """Prepare the next step; True when there is none."""

    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """The loss of this step (None where the step is done already, in closed form), and numbers
        for the history.
        """

    def fraction(self) -> float:
        """How much of the work is done, 0 to 1: drives schedules and progress."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers that `load_state_dict` needs to go on exactly here."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
