"""From the settings of a method to what trains: objective and optimiser, one row a kind of method."""

from __future__ import annotations

import dataclasses

from pflow.config_methods import Auto, Finetuning, Importance, LatentGaussian, Method, NoFinetuning, ReverseKL, ScoreReplay
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.latent import LatentGaussian as LatentGaussianFlow
from pflow.objectives.base import Objective
from pflow.objectives.batch_and_match import BatchAndMatch
from pflow.objectives.hybrid import Hybrid
from pflow.objectives.importance import Importance as ImportanceObjective
from pflow.objectives.reverse_kl import ReverseKL as ReverseKLObjective
from pflow.objectives.score_replay import ScoreReplay as ScoreReplayObjective
from pflow.objectives.stopping import Stopping
from pflow.target import Target
from pflow.training import Optimiser

__all__ = ["needs_gradient", "objective_of", "resolve", "wrap"]

# Where the operator-free work of score replay for one evaluation takes longer than this many evaluations of F, the paper's simple
# recipe reaches the same accuracy sooner on the wall clock: it needs some 50 times more evaluations.
REPLAY_SECONDS_PER_EVALUATION = 0.2
EVALUATIONS_SAVED = 50


def resolve(method: Method, seconds_per_evaluation: float | None) -> Method:
    """`auto` becomes the method that is faster for the measured cost of F; others stay.

    Raises:
        PflowError: the cost is not known.
    """
    if not isinstance(method, Auto):
        return method
    if seconds_per_evaluation is None:
        raise PflowError("`objective: auto` needs the measured cost of F: name operator.json with --operator")
    shared = {field.name: getattr(method, field.name) for field in dataclasses.fields(Finetuning)}
    dear = seconds_per_evaluation * EVALUATIONS_SAVED > REPLAY_SECONDS_PER_EVALUATION
    return ScoreReplay(**shared) if dear else ReverseKL(**shared)


def needs_gradient(method: Method) -> bool:
    """Whether the objective uses scores."""
    return not isinstance(method, (Importance, NoFinetuning))


def wrap(flow: Flow, architecture: dict, method: Method) -> tuple[Flow, dict]:
    """The flow that the method trains: for `latent` the given one, frozen, under a Gaussian latent."""
    if not isinstance(method, LatentGaussian):
        return flow, architecture
    outer = {key: architecture[key] for key in ("model_shape", "data_shape")}
    latent = {"covariance": method.covariance, "rank": method.rank}
    wrapped = LatentGaussianFlow(**outer, base=flow, **latent).to(next(flow.parameters()).device)
    return wrapped, {"name": "latent_gaussian", **outer, "base": architecture, **latent}


def objective_of(method: Finetuning, target: Target) -> tuple[Objective, Optimiser]:
    """The objective, and the optimiser that belongs to it."""
    stopping = _stopping(method)
    if isinstance(method, ReverseKL):
        optimiser = Optimiser(method.learning_rate, method.warmup, method.schedule, method.decay, method.decay_steps, method.clip)
        return ReverseKLObjective(target, stopping, method.batch, method.gradient, method.anneal), optimiser
    if isinstance(method, ScoreReplay):
        optimiser = Optimiser(2e-3, clip=100.0, betas=(0.9, 0.99))
        if not method.finish:
            return ScoreReplayObjective(target, stopping, method.draw, method.inner, method.batch), optimiser
        part = dataclasses.replace(method, evaluations=max(1, round(method.evaluations * (1 - method.finish))))
        replay = ScoreReplayObjective(target, _stopping(part), method.draw, method.inner, method.batch)
        return Hybrid(replay, ReverseKLObjective(target, stopping, 16, "path")), optimiser
    if isinstance(method, LatentGaussian) and method.fit == "match_scores":
        return BatchAndMatch(target, method.batch, stopping), Optimiser(method.learning_rate)
    if isinstance(method, LatentGaussian):
        return ReverseKLObjective(target, stopping, method.batch, "path"), Optimiser(method.learning_rate, method.warmup, "cosine", clip=10.0)
    if isinstance(method, Importance):
        return ImportanceObjective(target, stopping, method.draw, method.inner, method.batch), Optimiser(method.learning_rate, 20, clip=10.0)
    raise TypeError(f"no objective for {type(method).__name__}")


def _stopping(method: Finetuning) -> Stopping:
    return Stopping(method.evaluations, method.target_ess_fraction, method.target_score_error, method.target_elbo_change)
