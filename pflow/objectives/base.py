"""The interface between objectives and the training loop.

Symbols, here and in the modules beside this one:

    x model parameters z = T_theta(x; y) latent, N(0, I) under the flow q_theta density of the flow
    p~(x) unnormalised posterior density g(x) grad_x log p~(x) n evaluations of F spent so far

The loop calls `begin`, then `loss`, then steps the optimiser, until `begin` says that the objective
is finished. An objective holds its state explicitly and returns all of it in `state_dict`, so that
a run resumes bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow

__all__ = ["Objective"]


class Objective(ABC):
    """A loss over (flow, pairs); `TargetObjective` is the base of losses over (flow, target).

    Attributes:
        stop_reason: why `begin` ended the run, in words; empty while it runs.
    """

    stop_reason: str = ""

    @property
    def learning_rate_factor(self) -> float:
        """Factor of the optimiser's step size in the next step; 1 unless the objective has its own
        schedule.
        """
        return 1.0

    @abstractmethod
    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        """Prepare the next step; True when there is none."""

    @abstractmethod
    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """The loss of this step (None where the step is done already, in closed form), and numbers
        for the history.
        """

    @abstractmethod
    def fraction(self) -> float:
        """The finished fraction, 0 to 1: drives schedules and progress."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers that `load_state_dict` needs to continue exactly here."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
