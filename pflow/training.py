"""The training loop of all objectives.

`TrainingState` holds everything that the next step depends on: weights, optimiser, generator,
objective, history. A saved and loaded state continues bit for bit: an interrupted run and an
uninterrupted one end in the same weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from pflow.errors import PflowError
from pflow.execution.interruption import DeferredSignals, Interrupted
from pflow.execution.parallel import SingleProcess
from pflow.execution.progress import Progress
from pflow.flows.base import Flow
from pflow.objectives.base import Objective
from pflow.storage.checkpoint import Checkpoint

__all__ = ["Monitor", "Optimiser", "TrainingState", "train"]

SKIPS_IN_A_ROW = 5


@dataclass(frozen=True)
class Optimiser:
    """Adam with warm-up, a schedule and gradient clipping.

    Step size at step k, with f the finished fraction of the objective:

        learning_rate * min(1, (k + 1) / warmup) * s,
        s = decay^floor(k / decay_steps)  (exponential),   (1 + cos(pi f)) / 2  (cosine),   1
                                          (constant).
    """

    learning_rate: float
    warmup: int = 0
    schedule: str = "constant"
    decay: float = 1.0
    decay_steps: int = 1
    clip: float = math.inf
    betas: tuple[float, float] = (0.9, 0.999)

    def step_size(self, step: int, fraction: float) -> float:
        """The step size at `step`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        shape = {
            "constant": lambda: 1.0,
            "exponential": lambda: self.decay ** (step // self.decay_steps),
            "cosine": lambda: 0.5 * (1 + math.cos(math.pi * fraction)),
        }[self.schedule]()
        return self.learning_rate * warm * shape


@runtime_checkable
class Monitor(Protocol):
    """Measures a flow now and then, outside the training's own random stream and its count of
    evaluations.
    """

    @property
    def criterion(self) -> str | None: ...

    @property
    def patience(self) -> int: ...

    def mark(self, objective: Any) -> int:
        """How many marks (epochs, evaluation counts) the objective has passed; a new mark is
        measured, and so is the end.
        """

    def measure(self, flow: Flow) -> dict[str, float]:
        """Columns of the history."""


@dataclass
class TrainingState:
    """All that a run has come to so far.

    Attributes:
        step: optimiser steps begun.
        skipped: steps whose loss or gradient was not finite; they change nothing.
        seconds: wall time spent, over all interruptions.
        rows: the history, one row a step, measured before the step's update.
        best: value of the monitor's criterion, and the weights that had it.
        stale: measurements since the best one.
        mark: the last mark of the monitor that was measured.
        stop_reason: why the run ended; empty while it runs.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    best_value: float | None = None
    best_weights: dict[str, torch.Tensor] | None = None
    stale: int = 0
    mark: int = -1
    stop_reason: str = ""


def train(
    flow: Flow,
    objective: Objective,
    optimiser: Optimiser,
    *,
    generator: torch.Generator,
    monitor: Monitor,
    checkpoint: Checkpoint,
    progress: Progress,
    describe: Callable[[], dict[str, float]] = dict,
    processes: SingleProcess = SingleProcess(),
) -> TrainingState:
    """Train `flow` in place and leave the best weights in it (the last ones where the monitor has
    no criterion).

    Arguments:
        flow: trained in place.
        objective: what is minimised.
        optimiser: settings of Adam and of its step size.
        generator: of all random numbers of the objective; saved with the state.
        monitor: judges the weights, and says when to stop.
        checkpoint: where the state is saved and found again.
        progress: what is shown and written after a step.
        describe: extra columns of every row, such as the evaluations spent.
        processes: those that share every batch; the first one saves.

    Raises:
        PflowError: the loss was not finite several times in a row.
        Interrupted: SIGTERM or SIGINT arrived; the state was saved.
    """
    parameters = [p for p in flow.parameters() if p.requires_grad]
    adam = torch.optim.Adam(
        parameters, lr=optimiser.learning_rate, betas=optimiser.betas, fused=True
    )
    state = TrainingState()
    saved = checkpoint.load()
    if saved is not None:
        _load(saved, state, flow, objective, adam, generator)
        progress.say(f"continues after step {state.step}")
    began, last_saved = time.monotonic() - state.seconds, time.monotonic()
    with DeferredSignals(patient=processes.size > 1) as signals:
        while True:
            state.seconds = time.monotonic() - began
            finished = objective.begin(flow, generator)
            row = {
                "step": state.step,
                "seconds": round(state.seconds, 3),
                "skipped": state.skipped,
                **describe(),
            }
            if finished or monitor.mark(objective) > state.mark:
                state.mark = monitor.mark(objective)
                measured = monitor.measure(flow)
                row |= measured
                finished = _judge(measured, monitor, state, flow, objective, finished) or finished
            if finished:
                state.rows.append(row)
                break
            row |= _step(flow, objective, optimiser, adam, parameters, generator, state, processes)
            state.rows.append(row)
            progress.update(objective.fraction(), step=state.step, **_newest(row))
            received = processes.largest(signals.received or 0)
            if processes.rank == 0 and (
                received or time.monotonic() - last_saved > checkpoint.interval
            ):
                state.seconds, last_saved = time.monotonic() - began, time.monotonic()
                checkpoint.save(_dump(state, flow, objective, adam, generator))
            if received:
                raise Interrupted(
                    received,
                    f"stopped after step {state.step}; the state is saved, run again to continue",
                )
    if state.best_weights is not None:
        flow.load_state_dict(state.best_weights)
    state.stop_reason = state.stop_reason or objective.stop_reason
    return state


def _step(
    flow, objective, optimiser, adam, parameters, generator, state, processes
) -> dict[str, float]:
    """One update; a loss or gradient that is not finite changes nothing and is counted."""
    step_size = (
        optimiser.step_size(state.step, objective.fraction()) * objective.learning_rate_factor
    )
    for group in adam.param_groups:
        group["lr"] = step_size
    adam.zero_grad()
    loss, numbers = objective.loss(flow, generator)
    if loss is None:  # a closed-form step
        state.step += 1
        return numbers
    norm, value = math.nan, processes.mean(float(loss.detach()))
    if math.isfinite(value):
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, optimiser.clip))
    if math.isfinite(norm):
        adam.step()
        state.skipped_in_a_row = 0
    else:
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row >= SKIPS_IN_A_ROW:
            raise PflowError(
                f"the loss or its gradient was not finite in {SKIPS_IN_A_ROW} steps in a row (step"
                f" {state.step}, step size {step_size:.3g}): lower `learning_rate`, lengthen"
                " `warmup`, or check the data and the operator for extreme values"
            )
    state.step += 1
    return {"loss": value, "learning_rate": step_size, "gradient_norm": norm, **numbers}


def _judge(
    measured: dict[str, float],
    monitor: Monitor,
    state: TrainingState,
    flow: Flow,
    objective: Objective,
    finished: bool,
) -> bool:
    """Keep the best weights; True when patience has run out."""
    if monitor.criterion is None:
        return False
    value = measured[monitor.criterion]
    if math.isfinite(value) and (state.best_value is None or value < state.best_value):
        state.best_value, state.best_weights, state.stale = (
            value,
            copy.deepcopy(flow.state_dict()),
            0,
        )
        return False
    state.stale += 1
    if monitor.patience and state.stale >= monitor.patience and not finished:
        state.stop_reason = f"no better {monitor.criterion} in {monitor.patience} measurements"
        return True
    return False


def _newest(row: dict[str, float]) -> dict[str, float]:
    # the value of a path gradient's loss says nothing: only its gradient is meant
    first = "objective_nats" if "objective_nats" in row else "loss"
    shown = (first, "evaluations", "validation_loss", "kl_reverse_nats", "ess_fraction")
    return {name: row[name] for name in shown if name in row}


def _dump(
    state: TrainingState,
    flow: Flow,
    objective: Objective,
    adam: torch.optim.Adam,
    generator: torch.Generator,
) -> dict[str, Any]:
    return {
        "training": dict(vars(state)),
        "weights": flow.state_dict(),
        "optimiser": adam.state_dict(),
        "objective": objective.state_dict(),
        "generator": generator.get_state(),
    }


def _load(
    saved: dict[str, Any],
    state: TrainingState,
    flow: Flow,
    objective: Objective,
    adam: torch.optim.Adam,
    generator: torch.Generator,
) -> None:
    vars(state).update(saved["training"])
    flow.load_state_dict(saved["weights"])
    adam.load_state_dict(saved["optimiser"])
    objective.load_state_dict(saved["objective"])
    generator.set_state(saved["generator"])
