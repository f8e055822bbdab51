"""finetune: stage 2: train on one observation with the expensive operator, one method and one seed.

This module reads and writes files; `pflow.finetuning.result` computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import ScoreReplaySettings
from pflow.errors import PflowError
from pflow.execution.device import describe_device, peak_memory_mb, select_device
from pflow.execution.progress import Progress
from pflow.finetuning.correction import require_correctable
from pflow.finetuning.result import FinetuneInputs, FinetuneResult, run_finetuning
from pflow.provenance.record import identity
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.stages.io.outputs import FINETUNE_COLUMNS, write_flow
from pflow.stages.io.priors import with_prior
from pflow.stages.io.weights import architecture_of, load_flow
from pflow.storage.checkpoint import Checkpoint
from pflow.storage.layout import CheckpointFolder
from pflow.storage.text_files import read_json

__all__ = ["finetune"]


def finetune(
    settings: FinetuneJobSettings,
    record: dict[str, Any],
    *,
    observation: Path,
    pretrained: Path | None,
    operator: Path | None,
    out: Path,
    checkpoint: Path,
    prior: Path | None = None,
    reuse: Path | None = None,
    threads: int = 1,
) -> None:
    """Write flow.safetensors, flow.json and history.csv into the folder `out`.

    Arguments:
        settings: of the job.
        record: provenance, for flow.json.
        observation: store of y.
        pretrained: weights to start from; None for a start from random weights.
        prior: what `settings.prior` is read from; None for the problem's own.
        operator: operator.json, whose measured cost decides `objective: auto`.
        out: folder of the results.
        checkpoint: state of an interrupted run; evaluations lie beside it.
        reuse: weights of the method whose evaluations are reused; the evaluations lie beside the
            checkpoints.
        threads: for torch.
    """
    device = select_device(settings.device, threads)
    operator_facts = read_json(operator) if operator else None
    problem = problem_from(settings.problem)
    method_key = f"experiments.{settings.experiment}.finetune.{settings.name}"
    require_correctable(settings.method, method_key, problem.model_shape)
    y = read_observation(observation, problem).to(device)
    architecture = architecture_of(settings.flow, problem.model_shape, problem.summary_shape)
    resumed = CheckpointFolder(checkpoint.parent)
    start = pretrained if settings.method.start == "pretrained" else None
    with torch.random.fork_rng(
        devices=[]
    ):  # the initial weights do not depend on the random numbers of the prior
        posterior_problem = with_prior(problem, settings.prior, prior, y)
    inputs = FinetuneInputs(
        problem,
        posterior_problem,
        prior,
        y,
        architecture,
        load_flow(start, device, architecture)[0] if start is not None else None,
        operator_facts,
        choice_file=resumed.choice,
        evaluations=resumed.evaluations,
        reused_evaluations=_reused_evaluations(settings, reuse, resumed),
    )
    name = f"{settings.experiment}/{settings.observation}/{settings.name}/seed-{settings.seed}"
    progress, states = Progress(f"finetune {name}"), Checkpoint(checkpoint, identity(record))
    result = run_finetuning(settings, inputs, states, progress)
    facts = _facts(settings, result) | {
        "device": describe_device(device),
        "peak_memory_mb": peak_memory_mb(device),
        **_notes(result),
    }
    write_flow(out, result.flow, result.architecture, result.state, FINETUNE_COLUMNS, facts, record)
    states.remove()
    for line in _summary(result):
        progress.close(line)


def _reused_evaluations(
    settings: FinetuneJobSettings, reuse: Path | None, resumed: CheckpointFolder
) -> Path | None:
    """The store of the evaluations that the method reuses, at the same observation and seed; None
    for a method that reuses none.
    """
    method = settings.method
    if not isinstance(method, ScoreReplaySettings) or not method.reuse:
        return None
    if reuse is None:
        raise PflowError(
            f"method `{settings.name}` reuses the evaluations of `{method.reuse}`: name its weights"
            " with --reuse"
        )
    return resumed.of_method(method.reuse).evaluations


def _facts(settings: FinetuneJobSettings, result: FinetuneResult) -> dict[str, Any]:
    """Names and costs, for flow.json."""
    ledger = result.ledger
    own, reused = ledger.evaluations, ledger.cost(result.reused_points)
    return {
        "experiment": settings.experiment,
        "observation": settings.observation,
        "method": settings.name,
        "objective": result.method.tag_value,
        "seed": settings.seed,
        "evaluations": own + reused,
        "own_evaluations": own,
        "reused_evaluations": reused,
        "recalled_evaluations": ledger.recalled,
        "checked_evaluations": ledger.checked,
        "invalid_evaluations": ledger.invalid,
        "operator_seconds": round(ledger.seconds, 3),
    }


def _notes(result: FinetuneResult) -> dict[str, Any]:
    """Facts about the training of a method that trains, for flow.json."""
    if not result.trained:
        return {}
    ledger = result.ledger
    free_seconds = (result.state.seconds - ledger.seconds) / max(1, ledger.points)
    notes = {
        "seconds_per_step": result.seconds_per_step,
        "predicted_seconds": result.predicted_seconds,
        "start_note": result.start_note or None,
        "diagnosis": result.diagnosis,
        "warning": result.warning,
        "latent_correction": result.latent_correction or None,
        **result.outcome,
        "operator_free_seconds_per_evaluation": round(free_seconds, 6),
    }
    return {name: value for name, value in notes.items() if value is not None}


def _summary(result: FinetuneResult) -> list[str]:
    """The last lines of the log."""
    ledger, state = result.ledger, result.state
    notes = (
        result.latent_correction,
        result.diagnosis,
        result.warning and f"warning: {result.warning}",
        ledger.invalid
        and f"F or its density was NaN or infinite at {ledger.invalid} of {ledger.points} evaluated"
        " points, which taught nothing",
    )
    accuracy = state.rows[-1].get("kl_reverse_nats")
    divergence = "" if accuracy is None else f", KL(q || posterior) {accuracy:.4g} nats"
    took = f"{state.seconds:.1f} s"
    if result.predicted_seconds is not None:
        took += f" (predicted: {result.predicted_seconds:.3g} s)"
    reused = ""
    if result.reused_points and isinstance(result.method, ScoreReplaySettings):
        reused = f" and {ledger.cost(result.reused_points)} reused of `{result.method.reuse}`"
    return [str(note) for note in notes if note] + [
        f"{ledger.evaluations} evaluations{reused} in {took}{divergence} ({state.stop_reason})"
    ]
