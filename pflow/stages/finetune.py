"""finetune: stage 2, one observation, one method, one seed, with the expensive operator.

Preconditioned methods start from the pretrained weights, the control starts from random ones;
`none` keeps the pretrained weights, which is the amortised posterior.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pflow.config.decoding import encode
from pflow.config.jobs import FinetuneJobSettings, with_workers
from pflow.config.methods import (
    AutoSettings,
    MethodSettings,
    NoFinetuningSettings,
    ScoreReplaySettings,
)
from pflow.diagnostics.accuracy import accuracy_against_exact
from pflow.errors import PflowError
from pflow.execution.device import describe_device, peak_memory_mb, select_device
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.finetuning.automatic import resolve, step_seconds
from pflow.finetuning.correction import (
    correct_latent,
    kept_for_latent,
    require_correctable,
    wants_correction,
)
from pflow.finetuning.objectives import needs_gradient, objective_of, wrap
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.base import Objective
from pflow.problems.base import ExactPosterior
from pflow.provenance.code import entry_fingerprint
from pflow.provenance.record import file_hash, identity
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.stages.io.outputs import FINETUNE_COLUMNS, write_flow
from pflow.stages.io.priors import with_prior
from pflow.stages.io.weights import architecture_of, load_flow
from pflow.storage.checkpoint import Checkpoint
from pflow.storage.evaluations import EvaluationStore, finished_run
from pflow.storage.store import read_json
from pflow.training import TrainingState, train

__all__ = ["finetune"]

FIRST_MARK = 32
STORE = "evaluations.zarr"
# The code that decides p~ and its score, and no code of the training.
TARGET_CODE = ("pflow.inference.target:Target", "pflow.stages.io.inputs:problem_from")
PRIOR_CODE = ("pflow.stages.io.priors:with_prior",)
ELEMENTS = 2**20  # of x in the draws of one measurement of accuracy
FEWEST_DRAWS = 200


@dataclass
class AccuracyMonitor:
    """Accuracy against the exact posterior at 0, 32, 64, 128, ... evaluations and at the end; costs
    no evaluation of F.

    Where the problem has no exact posterior, nothing is measured on the way.
    """

    exact: ExactPosterior | None
    target: Target
    seed: int
    draws: int = 4000
    criterion: None = field(default=None, init=False)
    patience: int = field(default=0, init=False)

    def mark(self, objective: Objective) -> int:
        return int(learnt(objective, self.target) // FIRST_MARK).bit_length()

    @torch.no_grad()
    def measure(self, flow: Flow) -> dict[str, float]:
        if self.exact is None or self.exact.log_evidence is None:
            return {}
        generator = generator_for(self.seed, "monitor")
        draws = max(FEWEST_DRAWS, min(self.draws, ELEMENTS // math.prod(flow.model_shape)))
        x, log_q = flow.sample_with_log_prob(self.target.summary, draws, generator)
        truth = self.exact.sample(draws, generator).to(x)
        log_q_of_truth = flow.log_prob(truth, self.target.summary)
        arrays = (
            log_q,
            self.exact.log_density(x.cpu()),
            self.exact.log_density(truth.cpu()),
            log_q_of_truth,
        )
        return accuracy_against_exact(
            *(a.double().cpu().numpy() for a in arrays), log_evidence_exact=self.exact.log_evidence
        )


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
        pretrained: weights to start from; None for a start from random weights.
        prior: what `settings.prior` is read from; None for the problem's own.
        operator: operator.json, whose measured cost decides `objective: auto`.
        reuse: weights of the method whose evaluations are reused; the evaluations lie beside the
            checkpoints.
    """
    device = select_device(settings.device, threads)
    checked = read_json(operator) if operator else None
    method, problem = settings.method, problem_from(settings.problem)
    require_correctable(
        method, f"experiments.{settings.experiment}.finetune.{settings.name}", problem.model_shape
    )
    y = read_observation(observation, problem).to(device)
    expected = architecture_of(settings.flow, problem.model_shape, problem.summary_shape)
    if method.start == "pretrained":
        if pretrained is None:
            raise PflowError(
                f"method `{settings.name}` starts from pretrained weights: name them with"
                " --pretrained"
            )
        flow, architecture = load_flow(pretrained, device, expected)
    else:
        torch.manual_seed(int(generator_for(settings.seed, "weights").initial_seed() % 2**31))
        flow, architecture = build_flow(**expected).to(device), expected
        with torch.no_grad():
            generator = generator_for(settings.seed, "initialise")
            prior_draws = None
            if isinstance(
                method, (AutoSettings, ScoreReplaySettings)
            ):  # the control by path gradients keeps the plain start of the paper
                prior_draws = problem.sample_prior(
                    256, generator_for(settings.seed, "initialise", "prior")
                ).to(y)
            flow.initialise_inverse(64, problem.summary(y), generator, prior_draws)
    method = resolve(
        method,
        checked,
        lambda: step_seconds(flow, problem.summary(y)),
        checkpoint.parent.with_name("auto.json"),
    )
    flow, architecture = wrap(flow, architecture, method)
    problem = with_prior(problem, settings.prior, prior, y)
    of_target = _target_identity(settings, method, y, prior)
    evaluations = EvaluationStore(checkpoint.with_name(STORE), of_target)
    target = Target(
        problem,
        y,
        gradient=needs_gradient(method),
        store=evaluations,
        sources=getattr(method, "sources", 0),
        seed=settings.seed,
    )
    known = None
    if getattr(method, "reuse", ""):
        if reuse is None:
            raise PflowError(
                f"method `{settings.name}` reuses the evaluations of `{method.reuse}`: name its"
                " weights with --reuse"
            )
        folder = checkpoint.parents[2] / method.reuse / checkpoint.parent.name
        known = target.recalled(finished_run(folder / STORE, of_target))
    reused_points = 0 if known is None else len(known.x)
    monitor = AccuracyMonitor(
        problem.exact_posterior(y.cpu(), fidelity="high"), target, settings.seed
    )
    name = f"{settings.experiment}/{settings.observation}/{settings.name}/seed-{settings.seed}"
    progress, store = Progress(f"finetune {name}"), Checkpoint(checkpoint, identity(record))
    if isinstance(method, NoFinetuningSettings):
        notes = {}
        state = TrainingState(stop_reason="the method does not fine-tune")
        state.rows.append(
            {"step": 0, "evaluations": 0, "seconds": 0.0, "skipped": 0, **monitor.measure(flow)}
        )
    else:
        objective, optimiser = objective_of(method, target, known)
        corrected = ""
        state = train(
            flow,
            objective,
            optimiser,
            generator=generator_for(settings.seed, "finetune", settings.observation),
            monitor=monitor,
            checkpoint=store,
            progress=progress,
            describe=lambda: {"evaluations": learnt(objective, target)},
        )
        notes = {"seconds_per_step": round(state.seconds / state.step, 5)} if state.step else {}
        if wants_correction(method, problem.model_shape, target.ledger.points + reused_points):
            began = time.monotonic()
            random = generator_for(settings.seed, "correct", settings.observation)
            flow, architecture, correction = correct_latent(
                flow, architecture, method, target, random, known
            )
            state.seconds += time.monotonic() - began
            now = {
                "step": state.step,
                "evaluations": learnt(objective, target),
                "seconds": state.seconds,
                "skipped": state.rows[-1]["skipped"],
            }
            state.rows.append({**now, **monitor.measure(flow)})
            told = (
                "none proved itself"
                if correction is None
                else (
                    f"score error per unknown at points left out from {correction.flow_error:.3g}"
                    f" to {correction.error:.3g}"
                )
            )
            corrected = f"Gaussian of the latent: {told}"
            state.stop_reason += (
                f"; {kept} were kept for the Gaussian of the latent"
                if (kept := kept_for_latent(method))
                else ""
            )
            progress.close(corrected)
        notes |= {
            "diagnosis": objective.stopping.diagnosis(),
            "warning": getattr(objective, "warning", ""),
            **({"latent_correction": corrected} if corrected else {}),
            "operator_free_seconds_per_evaluation": round(
                (state.seconds - target.ledger.seconds) / max(1, target.ledger.points), 6
            ),
        }
    evaluations.finish(target.ledger.asked)
    own, reused = target.ledger.evaluations, target.ledger.cost(reused_points)
    facts = {
        "experiment": settings.experiment,
        "observation": settings.observation,
        "method": settings.name,
        "objective": method.tag_value,
        "seed": settings.seed,
        "evaluations": own + reused,
        "own_evaluations": own,
        "reused_evaluations": reused,
        "recalled_evaluations": target.ledger.recalled,
        "invalid_evaluations": target.ledger.invalid,
        "operator_seconds": round(target.ledger.seconds, 3),
        "device": describe_device(device),
        "peak_memory_mb": peak_memory_mb(device),
        **notes,
    }
    write_flow(out, flow, architecture, state, FINETUNE_COLUMNS, facts, record)
    store.remove()
    accuracy = state.rows[-1].get("kl_reverse_nats")
    told = "" if accuracy is None else f", KL(q || posterior) {accuracy:.4g} nats"
    for note in (notes.get("diagnosis"), notes.get("warning") and f"warning: {notes['warning']}"):
        if note:
            progress.close(note)
    also = f" and {reused} reused of `{method.reuse}`" if reused else ""
    progress.close(f"{own} evaluations{also} in {state.seconds:.1f} s{told} ({state.stop_reason})")


def learnt(objective: Objective, target: Target) -> int | float:
    """Evaluations that the flow has learnt from: all that are spent, or those of finished rounds;
    reused ones count as well.
    """
    return target.ledger.cost(getattr(objective, "learnt", target.ledger.points))


def _target_identity(
    settings: FinetuneJobSettings,
    method: MethodSettings,
    y: torch.Tensor,
    prior: Path | None = None,
) -> str:
    """Fingerprint of p~: an evaluation stays true while problem, observation and their code are the
    same.
    """
    sources = getattr(method, "sources", 0)
    subsets = [sources, settings.seed] if sources else []
    told = {
        "problem": encode(with_workers(settings.problem, 1)),
        "prior": encode(settings.prior),
        "scores": needs_gradient(method),
        "subsets": subsets,
    }  # a store of values alone holds no scores
    read = file_hash(prior) if prior else ""
    text = json.dumps(told, sort_keys=True)
    entries = (*TARGET_CODE, *(PRIOR_CODE if prior else ()))
    parts = (
        text.encode(),
        read.encode(),
        y.cpu().numpy().tobytes(),
        entry_fingerprint(*entries, settings=text).encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
