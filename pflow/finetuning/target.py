"""The posterior density p~ to fit, and its existing evaluations.

Evaluations are stored under the identity of their target. They stay valid while problem, prior,
observation and the code of the problem stay the same, for every method.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import Tensor

from pflow.config.decoding import encode
from pflow.config.jobs import FinetuneJobSettings, with_workers
from pflow.config.methods import MethodSettings, ReverseKLSettings, ScoreReplaySettings
from pflow.finetuning.objectives import uses_gradient
from pflow.inference.evaluation import Evaluation
from pflow.inference.recall import RecallCheck
from pflow.inference.target import Target
from pflow.problems.base import Problem
from pflow.provenance.code import entry_fingerprint
from pflow.storage.evaluations import EvaluationStore, finished_run
from pflow.storage.origins import file_hash

__all__ = ["build_target", "evaluations_to_reuse", "target_identity"]

# The code that computes p~ and its score, without the code of the training.
TARGET_CODE = ("pflow.inference.target:Target", "pflow.stages.io.inputs:problem_from")
PRIOR_CODE = ("pflow.stages.io.priors:with_prior",)


def build_target(
    settings: FinetuneJobSettings,
    method: MethodSettings,
    problem: Problem,
    y: Tensor,
    prior_file: Path | None,
    store: Path,
) -> Target:
    """p~ with its store of evaluations.

    Arguments:
        settings: of the job.
        method: the method that trains, after `objective: auto` has been decided.
        problem: with the prior of the posterior.
        y: the observation, (1, *data).
        prior_file: what that prior was read from; None for the problem's own.
        store: where the evaluations of this run are kept.
    """
    scores = uses_gradient(method, problem)
    identity = target_identity(settings, method, y, scores, prior_file)
    return Target(
        problem,
        y,
        gradient=scores,
        store=EvaluationStore(store, identity),
        sources=_random_sources(method),
        seed=settings.seed,
        recall=RecallCheck(f"run `python -m pflow forget {settings.experiment}` and snakemake"),
    )


def evaluations_to_reuse(target: Target, store: Path | None) -> Evaluation | None:
    """The evaluations of another method's completed run; None where none is to be reused.

    Raises:
        PflowError: its store is missing, damaged or of another target, or the operator answers
            otherwise now.
    """
    if store is None:
        return None
    rows = finished_run(store, target.store.identity)
    target.check_recalled(rows)
    return target.recalled(rows)


def target_identity(
    settings: FinetuneJobSettings,
    method: MethodSettings,
    y: Tensor,
    scores: bool,
    prior_file: Path | None = None,
) -> str:
    """Fingerprint of p~: an evaluation stays true while problem, prior, observation and their code
    are the same. A store of values alone holds no scores, and so has another fingerprint.
    """
    sources = _random_sources(method)
    description = {
        "problem": encode(with_workers(settings.problem, 1)),
        "prior": encode(settings.prior),
        "scores": scores,
        "subsets": [sources, settings.seed] if sources else [],
    }
    text = json.dumps(description, sort_keys=True)
    entries = (*TARGET_CODE, *(PRIOR_CODE if prior_file else ()))
    parts = (
        text.encode(),
        (file_hash(prior_file) if prior_file else "").encode(),
        y.cpu().numpy().tobytes(),
        entry_fingerprint(*entries, settings=text).encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _random_sources(method: MethodSettings) -> int:
    """Random sources in the evaluation of each point; 0 for all."""
    return method.sources if isinstance(method, (ReverseKLSettings, ScoreReplaySettings)) else 0
