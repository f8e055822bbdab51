"""From the settings of a method to what trains: objective and optimiser, one row a kind of method."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from pflow.config_methods import Finetuning, Importance, LatentGaussian, Method, NoFinetuning, ReverseKL, ScoreReplay
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.latent import LatentGaussian as LatentGaussianFlow
from pflow.objectives.base import Objective
from pflow.objectives.batch_and_match import BatchAndMatch
from pflow.objectives.hybrid import Hybrid
from pflow.objectives.importance import Importance as ImportanceObjective
from pflow.objectives.latent_correction import MOST_UNKNOWNS, LatentCorrection, fit_latent
from pflow.objectives.reverse_kl import ReverseKL as ReverseKLObjective
from pflow.objectives.score_model import DENSE
from pflow.objectives.score_replay import ScoreReplay as ScoreReplayObjective
from pflow.objectives.stopping import Stopping
from pflow.target import Evaluation, Target
from pflow.training import Optimiser

__all__ = ["correct_latent", "needs_gradient", "objective_of", "require_correctable", "wants_correction", "wrap"]


def needs_gradient(method: Method) -> bool:
    """Whether the objective uses scores."""
    return not isinstance(method, (Importance, NoFinetuning))


def wrap(flow: Flow, architecture: dict, method: Method) -> tuple[Flow, dict]:
    """The flow that the method trains: for `latent` the given one, frozen, under a Gaussian latent."""
    if not isinstance(method, LatentGaussian):
        return flow, architecture
    return _under_latent(flow, architecture, {"covariance": method.covariance, "rank": method.rank})


def require_correctable(method: Method, where: str, model_shape: Sequence[int]) -> None:
    """Refuse `correct_latent` where its matrix would be too large, before anything is spent."""
    unknowns = math.prod(model_shape)
    if getattr(method, "correct_latent", None) and unknowns > MOST_UNKNOWNS:
        raise PflowError(
            f"`correct_latent` keeps a dense matrix of the unknowns (={unknowns}), and they must be at most {MOST_UNKNOWNS} for that: remove it from {where}"
        )


def wants_correction(method: Method, model_shape: Sequence[int], points: int) -> bool:
    """Whether a Gaussian of the latent is to be fitted after training; score replay decides by itself where nothing is said."""
    choice, unknowns = getattr(method, "correct_latent", False), math.prod(model_shape)
    return DENSE < unknowns <= min(points, MOST_UNKNOWNS) if choice is None else choice


def correct_latent(flow: Flow, architecture: dict, target: Target, known: Evaluation | None = None) -> tuple[Flow, dict, LatentCorrection | None]:
    """The flow under the Gaussian latent that its evaluations, after those in `known`, ask for; as it was, and None, where they ask for none."""
    evaluated = target.recalled(target.store.take(np.concatenate(target.ledger.rows)))
    if known is not None:
        evaluated = Evaluation(*(torch.cat([getattr(known, part.name), getattr(evaluated, part.name)]) for part in dataclasses.fields(Evaluation)))
    correction = fit_latent(flow, target.summary, evaluated)
    if correction is None:
        return flow, architecture, None
    wrapped, architecture = _under_latent(flow, architecture, {"covariance": "dense", "rank": 0})
    wrapped.latent.set_moments(correction.mean, correction.covariance)
    return wrapped, architecture, correction


def _under_latent(flow: Flow, architecture: dict, latent: dict) -> tuple[Flow, dict]:
    outer = {key: architecture[key] for key in ("model_shape", "data_shape")}
    wrapped = LatentGaussianFlow(**outer, base=flow, **latent).to(next(flow.parameters()).device)
    return wrapped, {"name": "latent_gaussian", **outer, "base": architecture, **latent}


def objective_of(method: Finetuning, target: Target, known: Evaluation | None = None) -> tuple[Objective, Optimiser]:
    """The objective, and the optimiser that belongs to it.

    Arguments:
        known: evaluations of another method, for one that reuses them.
    """
    stopping = _stopping(method, target)
    if isinstance(method, ReverseKL):
        optimiser = Optimiser(method.learning_rate, method.warmup, method.schedule, method.decay, method.decay_steps, method.clip)
        return ReverseKLObjective(target, stopping, method.batch, method.gradient, method.anneal, method.keep), optimiser
    if isinstance(method, ScoreReplay):
        optimiser = Optimiser(2e-3, clip=100.0, betas=(0.9, 0.99))
        if not method.finish:
            return ScoreReplayObjective(target, stopping, method.draw, method.inner, method.batch, known), optimiser
        part = dataclasses.replace(method, evaluations=max(1, round(method.evaluations * (1 - method.finish))))
        replay = ScoreReplayObjective(target, _stopping(part, target), method.draw, method.inner, method.batch, known)
        return Hybrid(replay, ReverseKLObjective(target, stopping, 16, "path")), optimiser
    if isinstance(method, LatentGaussian) and method.fit == "match_scores":
        return BatchAndMatch(target, method.batch, stopping), Optimiser(method.learning_rate)
    if isinstance(method, LatentGaussian):
        return ReverseKLObjective(target, stopping, method.batch, "path"), Optimiser(method.learning_rate, method.warmup, "cosine", clip=10.0)
    if isinstance(method, Importance):
        return ImportanceObjective(target, stopping, method.draw, method.inner, method.batch), Optimiser(method.learning_rate, 20, clip=10.0)
    raise TypeError(f"no objective for {type(method).__name__}")


def _stopping(method: Finetuning, target: Target) -> Stopping:
    targets = (method.target_ess_fraction, method.target_score_error, method.target_elbo_change)
    return Stopping(method.evaluations, *targets, share=target.ledger.share)
