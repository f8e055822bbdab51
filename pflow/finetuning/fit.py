"""Training of one flow on one target, up to the end of its budget."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pflow.config.methods import NoFinetuningSettings
from pflow.execution.progress import Progress
from pflow.finetuning.accuracy_monitor import AccuracyMonitor
from pflow.finetuning.objectives import objective_of
from pflow.finetuning.start import Start
from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.storage.checkpoint import Checkpoint
from pflow.training import TrainingState, train

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """The result of training.

    Attributes:
        flow: with the trained weights.
        state: steps, seconds, history and why it stopped.
        points_learnt_from: evaluated points used in training, reused ones included.
        diagnosis: whether fine-tuning was needed, from the first draws; empty if unknown.
        warning: evidence against the result; empty if there is none.
        outcome: further findings of the objective, by name.
    """

    flow: Flow
    state: TrainingState
    points_learnt_from: int = 0
    diagnosis: str = ""
    warning: str = ""
    outcome: dict[str, float | str] = field(default_factory=dict)


def fit(
    start: Start,
    target: Target,
    reused_evaluations: Evaluation | None,
    monitor: AccuracyMonitor,
    *,
    generator: torch.Generator,
    checkpoint: Checkpoint,
    progress: Progress,
) -> FitResult:
    """Train the flow of `start` in place; `none` measures it alone.

    Arguments:
        start: the flow and the method.
        target: p~, and the count of its evaluations.
        reused_evaluations: of another method, for one that starts from them.
        monitor: measures accuracy while training runs.
        generator: of all draws.
        checkpoint: where an interrupted run is kept.
        progress: for the log.

    Raises:
        PflowError: the loss was not finite several times in a row.
        Interrupted: SIGTERM or SIGINT arrived; the state was saved.
    """
    if isinstance(start.method, NoFinetuningSettings):
        row = {"step": 0, "evaluations": 0, "seconds": 0.0, "skipped": 0}
        state = TrainingState(
            rows=[row | monitor.measure(start.flow)], stop_reason="the method does not fine-tune"
        )
        return FitResult(start.flow, state)
    objective, optimiser = objective_of(start.method, target, reused_evaluations)
    state = train(
        start.flow,
        objective,
        optimiser,
        generator=generator,
        monitor=monitor,
        checkpoint=checkpoint,
        progress=progress,
        describe=lambda: {"evaluations": objective.evaluations_learnt_from},
    )
    return FitResult(
        start.flow,
        state,
        objective.points_learnt_from,
        objective.stopping.diagnosis(),
        objective.warning,
        objective.outcome,
    )
