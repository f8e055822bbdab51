"""Two objectives one after the other on one target: score replay, then path gradients with the rest
of the budget.

Score replay follows a model of the score, which has an error; path gradients use the target itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.replay.score_replay import ScoreReplay
from pflow.objectives.reverse_kl import ReverseKL
from pflow.objectives.target_objective import TargetObjective

__all__ = ["Hybrid"]

FINISH_STEP_SIZE = (
    0.25  # of the optimiser's, decreasing to zero: the flow is close to the posterior
)


class Hybrid(TargetObjective):
    """`first` until it stops, then `second`; both share one target, whose ledger counts for both.

    Arguments:
        first: score replay, with its part of the budget.
        second: path gradients, with the whole budget.
    """

    def __init__(self, first: ScoreReplay, second: ReverseKL) -> None:
        # the diagnosis in `stopping` is of the first draws
        super().__init__(second.target, first.stopping)
        self.first, self.second, self.finishing = first, second, False

    @property
    def warning(self) -> str:
        """The warning of score replay."""
        return self.first.warning

    @property
    def points_learnt_from(self) -> int:
        """Those of replay's finished rounds, then all; reused ones included."""
        return (
            self.target.ledger.points + self.first.reused_points
            if self.finishing
            else self.first.points_learnt_from
        )

    @property
    def learning_rate_factor(self) -> float:
        """Replay's own, then a cosine to zero."""
        if not self.finishing:
            return self.first.learning_rate_factor
        begun, whole = self.first.stopping.points, self.second.stopping.points
        part = (self.target.ledger.points - begun) / max(1, whole - begun)
        return FINISH_STEP_SIZE * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, part))))

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        if not self.finishing:
            self.finishing = self.first.begin(flow, generator)
            if not self.finishing:
                return False
        done = self.second.begin(flow, generator)
        self.stop_reason = self.second.stop_reason
        return done

    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        return (self.second if self.finishing else self.first).loss(flow, generator)

    def fraction(self) -> float:
        share = self.first.stopping.points / self.second.stopping.points
        return self.second.fraction() if self.finishing else share * self.first.fraction()

    def state_dict(self) -> dict[str, Any]:
        return {
            "first": self.first.state_dict(),
            "second": self.second.state_dict(),
            "finishing": self.finishing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first.load_state_dict(state["first"])
        self.second.load_state_dict(state["second"])
        self.finishing = state["finishing"]
