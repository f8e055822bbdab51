"""What score replay knows between rounds, and the round that the flow is in.

All of these are values: a transition (`transitions`) returns a new one and changes none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.best_state import BestState
from pflow.objectives.replay.evaluated_points import Evaluated
from pflow.objectives.replay.free_draws import flow_score
from pflow.objectives.replay.lost_modes import LostModes
from pflow.objectives.replay.posterior_model import PosteriorModel
from pflow.objectives.replay.score_model import Metric, ScoreModel
from pflow.objectives.stopping import Stopping

__all__ = ["REACH", "ReplaySetup", "ReplayState", "Round"]

REACH = 2.0  # standard deviations that one round may move


@dataclass(frozen=True)
class ReplaySetup:
    """What stays the same in all rounds.

    Attributes:
        target: p~ and its ledger.
        stopping: budget and targets.
        draw: M, points a round; None for `points_in_a_round`.
        steps: at most this many steps a round.
        batch: B, draws a step.
        reused_evaluations: evaluations of the same target by another run.
    """

    target: Target
    stopping: Stopping
    draw: int | None = None
    steps: int = 200
    batch: int = 64
    reused_evaluations: Evaluation | None = None

    @property
    def reused_points(self) -> int:
        """Points evaluated by another run."""
        return 0 if self.reused_evaluations is None else len(self.reused_evaluations.valid)

    @property
    def points_left(self) -> int:
        """Points that the budget still pays."""
        return self.stopping.points - self.target.ledger.points


@dataclass(frozen=True)
class ReplayState:
    """What finished rounds leave, and the points of the one that is open.

    Attributes:
        rounds: finished rounds.
        evaluated: all valid points so far; None before the first.
        best: the best weights so far, and their ELBO.
        modes: what the last model of the posterior says of lost modes.
        metric: S and mu of the last round; None before there is one.
        tests_modes: whether the last model of the posterior had draws, so that modes are tested.
        asked: points drawn for the newest round.
        points_of_finished_rounds: evaluated in finished rounds, reused ones included.
        reach: standard deviations that the next round may move.
        step_size: factor of the optimiser's, from the cuts of finished rounds.
        rejected: draws whose ELBO was clearly lower than the best.
        undone: rounds that made the flow worse.
    """

    rounds: int = 0
    evaluated: Evaluated | None = None
    best: BestState = field(default_factory=BestState)
    modes: LostModes = field(default_factory=LostModes)
    metric: Metric | None = None
    tests_modes: bool = False
    asked: int = 0
    points_of_finished_rounds: int = 0
    reach: float = REACH
    step_size: float = 1.0
    rejected: int = 0
    undone: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        return {
            **vars(self),
            "evaluated": None if self.evaluated is None else dict(vars(self.evaluated)),
            "best": self.best.state_dict(),
            "modes": dict(vars(self.modes)),
            "metric": None if self.metric is None else self.metric.state_dict(),
        }

    @classmethod
    def from_state_dict(cls, saved: dict[str, Any]) -> ReplayState:
        """The value that `saved` was taken of."""
        best, metric, evaluated = BestState(), saved["metric"], saved["evaluated"]
        best.load_state_dict(saved["best"])
        return replace(
            cls(**saved),
            evaluated=None if evaluated is None else Evaluated(**evaluated),
            best=best,
            modes=LostModes(**saved["modes"]),
            metric=None if metric is None else Metric.from_state_dict(metric),
        )


@dataclass(frozen=True)
class Round:
    """What the flow follows in one round.

    Attributes:
        number: of the round, from 1.
        start: q_theta0, the frozen flow at the start of the round.
        model: g^, the model of the score.
        posterior: p^, the model of the posterior; None in many dimensions.
        modes: what `posterior` says of lost modes.
        damping: b.
        opening: distance from the flow to its model at the start of the round.
    """

    number: int
    start: Flow
    model: ScoreModel
    posterior: PosteriorModel | None
    modes: LostModes
    damping: float
    opening: float

    def residual(self, flow: Flow, summary: Tensor, points: Tensor) -> Tensor:
        """grad log q - (1 - b) grad log q_theta0 - b g^ at flattened points, (n, D)."""
        residual = flow_score(flow, summary, points) - self.damping * self.model.score(points)
        if self.damping < 1:
            at_start = flow_score(self.start, summary, points)
            residual = residual - (1 - self.damping) * at_start
        return residual

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers. The model of the posterior follows from the points."""
        return {
            "number": self.number,
            "start": self.start.state_dict(),
            "model": self.model.state_dict(),
            "modes": dict(vars(self.modes)),
            "damping": self.damping,
            "opening": self.opening,
        }
