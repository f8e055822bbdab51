"""From a start and a target to a fine-tuned flow:

load_start() -> build_target() -> fit() -> correct() -> FinetuneResult
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import MethodSettings, NoFinetuningSettings
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.finetuning.accuracy_monitor import AccuracyMonitor
from pflow.finetuning.correction import (
    CorrectedFlow,
    correct_latent,
    kept_for_latent,
    wants_correction,
)
from pflow.finetuning.fit import FitResult, fit
from pflow.finetuning.start import Start, load_start
from pflow.finetuning.target import build_target, evaluations_to_reuse
from pflow.flows.base import Flow
from pflow.flows.spline_latent import without_idle_splines
from pflow.inference.evaluation import Evaluation, Ledger
from pflow.inference.target import Target
from pflow.problems.base import Problem
from pflow.storage.checkpoint import Checkpoint
from pflow.training import TrainingState

__all__ = ["FinetuneInputs", "FinetuneResult", "correct", "run_finetuning"]


@dataclass(frozen=True)
class FinetuneInputs:
    """The inputs of fine-tuning.

    Attributes:
        problem: with its own prior.
        posterior_problem: the same with the prior of the posterior.
        prior_file: what that prior was read from; None for the problem's own.
        y: the observation, (1, *data), on the device to train on.
        architecture: of the flow.
        pretrained: the flow of stage 1; None for a start from random weights.
        operator_facts: content of operator.json, for `objective: auto`.
        choice_file: where the choice of `objective: auto` is kept.
        evaluations: where the evaluations of this run are kept.
        reused_evaluations: those of another method's completed run; None to reuse none.
    """

    problem: Problem
    posterior_problem: Problem
    prior_file: Path | None
    y: Tensor
    architecture: dict[str, Any]
    pretrained: Flow | None
    operator_facts: Mapping[str, Any] | None
    choice_file: Path
    evaluations: Path
    reused_evaluations: Path | None


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned flow and how it was made.

    Attributes:
        flow, architecture: the posterior at the observation.
        state: steps, seconds, history and why training stopped.
        method: the trained method, after `objective: auto` was resolved.
        ledger: the evaluations made.
        reused_points: evaluations of another method, which cost nothing here.
        seconds_per_step: of training; None without a step.
        diagnosis, warning, outcome: of `FitResult`.
        latent_correction: the outcome of the latent correction; empty if none was tried.
        start_note, predicted_seconds: `note` and `predicted_seconds` of `Start`.
    """

    flow: Flow
    architecture: dict[str, Any]
    state: TrainingState
    method: MethodSettings
    ledger: Ledger
    reused_points: int
    seconds_per_step: float | None = None
    diagnosis: str = ""
    warning: str = ""
    latent_correction: str = ""
    start_note: str = ""
    predicted_seconds: float | None = None
    outcome: dict[str, float | str] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether the method fine-tunes at all."""
        return not isinstance(self.method, NoFinetuningSettings)


def run_finetuning(
    settings: FinetuneJobSettings,
    inputs: FinetuneInputs,
    checkpoint: Checkpoint,
    progress: Progress,
) -> FinetuneResult:
    """The whole of stage 2 for one observation, one method and one seed.

    Raises:
        PflowError: an input that the method needs is missing, or training failed.
        Interrupted: SIGTERM or SIGINT arrived; the state was saved in `checkpoint`.
    """
    start = load_start(
        settings,
        inputs.problem,
        inputs.posterior_problem,
        inputs.y,
        inputs.architecture,
        inputs.pretrained,
        inputs.operator_facts,
        inputs.choice_file,
        progress.say,
    )
    target = build_target(
        settings,
        start.method,
        inputs.posterior_problem,
        inputs.y,
        inputs.prior_file,
        inputs.evaluations,
    )
    reused = evaluations_to_reuse(target, inputs.reused_evaluations)
    exact = target.problem.exact_posterior(inputs.y.cpu(), fidelity="high")
    monitor = AccuracyMonitor(exact, target, settings.seed)
    random = generator_for(settings.seed, "finetune", settings.observation)
    fitted = fit(
        start, target, reused, monitor, generator=random, checkpoint=checkpoint, progress=progress
    )
    random = generator_for(settings.seed, "correct", settings.observation)
    result = correct(start, fitted, target, reused, monitor, random)
    target.store.finish(target.ledger.asked)
    return result


def correct(
    start: Start,
    fitted: FitResult,
    target: Target,
    reused_evaluations: Evaluation | None,
    monitor: AccuracyMonitor,
    generator: torch.Generator,
) -> FinetuneResult:
    """The fitted flow, with a Gaussian latent if the method is configured for it and it passes its
    test (`correct_latent`). The last row of the history measures the corrected flow.
    """
    flow, architecture = without_idle_splines(fitted.flow, start.architecture)
    state = fitted.state
    reused_points = 0 if reused_evaluations is None else len(reused_evaluations.x)
    result = FinetuneResult(
        flow,
        architecture,
        state,
        start.method,
        target.ledger,
        reused_points,
        round(state.seconds / state.step, 5) if state.step else None,
        fitted.diagnosis,
        fitted.warning,
        start_note=start.note,
        predicted_seconds=start.predicted_seconds,
        outcome=fitted.outcome,
    )
    points = target.ledger.points + reused_points
    if not wants_correction(start.method, target.problem.model_shape, points):
        return result
    began = time.monotonic()
    corrected = correct_latent(
        flow, architecture, start.method, target, generator, reused_evaluations
    )
    seconds = state.seconds + time.monotonic() - began
    spent = target.ledger.points + reused_points - points  # on the test of the correction
    row = {
        "step": state.step,
        "evaluations": target.ledger.cost(fitted.points_learnt_from + spent),
        "seconds": seconds,
        "skipped": state.rows[-1]["skipped"],
        **monitor.measure(corrected.flow),
    }
    kept = kept_for_latent(start.method)
    stop_reason = state.stop_reason + (
        f"; {kept} were kept for the Gaussian of the latent" if kept else ""
    )
    return dataclasses.replace(
        result,
        flow=corrected.flow,
        architecture=corrected.architecture,
        state=dataclasses.replace(
            state, seconds=seconds, rows=[*state.rows, row], stop_reason=stop_reason
        ),
        latent_correction=f"Gaussian of the latent: {_outcome(corrected)}",
    )


def _outcome(corrected: CorrectedFlow) -> str:
    if corrected.correction is None:
        return "none proved itself"
    correction = corrected.correction
    return (
        f"score error per parameter at points left out from {correction.flow_error:.3g} to"
        f" {correction.error:.3g}"
    )
