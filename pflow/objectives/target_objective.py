"""The interface of objectives for fine-tuning, besides that of the training loop: target, budget,
and the number of evaluations used in training.

It is a module of its own, so that pretraining does not depend on the code of targets.
"""

from __future__ import annotations

from pflow.inference.target import Target
from pflow.objectives.base import Objective
from pflow.objectives.stopping import Stopping

__all__ = ["TargetObjective"]


class TargetObjective(Objective):
    """A loss over (flow, target).

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets, and the diagnosis of the flow at the start.
    """

    def __init__(self, target: Target, stopping: Stopping) -> None:
        self.target, self.stopping = target, stopping

    @property
    def warning(self) -> str:
        """Evidence against the result; empty if there is none."""
        return ""

    @property
    def outcome(self) -> dict[str, float | str]:
        """What flow.json says beside costs, by name; empty if nothing."""
        return {}

    @property
    def points_learnt_from(self) -> int:
        """Evaluated points used in training: all points evaluated, unless the objective trains in
        rounds or reuses evaluations.
        """
        return self.target.ledger.points

    @property
    def evaluations_learnt_from(self) -> int | float:
        """What these points cost, in evaluations; those reused count as well."""
        return self.target.ledger.cost(self.points_learnt_from)
