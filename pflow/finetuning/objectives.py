"""From the settings of a method to what trains: objective and optimiser, one row a kind of
method.
"""

from __future__ import annotations

import dataclasses
import math

from pflow.config.methods import (
    FinetuningSettings,
    ImportanceSettings,
    LatentGaussianSettings,
    MethodSettings,
    NoFinetuningSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.finetuning.correction import kept_for_latent, under_latent
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.flows.spline_latent import SplineLatent
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.batch_and_match import BatchAndMatch
from pflow.objectives.hybrid import Hybrid
from pflow.objectives.importance import Importance
from pflow.objectives.linear.applies import DENSE, learns_linear, stationary_prior
from pflow.objectives.linear.objective import LinearSurrogate
from pflow.objectives.linear.operator_range import why_range_too_large
from pflow.objectives.linear.schedule import MOST_STEPS
from pflow.objectives.replay.score_replay import ScoreReplay
from pflow.objectives.reverse_kl import ReverseKL
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.competition import FEW_PARAMETERS
from pflow.objectives.surrogate.memory import why_too_large
from pflow.objectives.surrogate.objective import Surrogate
from pflow.objectives.target_objective import TargetObjective
from pflow.problems.base import Problem
from pflow.training import Optimiser

__all__ = ["objective_of", "trains_given_weights", "uses_gradient", "wrap"]


def uses_gradient(method: MethodSettings, problem: Problem) -> bool:
    """Whether the objective asks for scores: `surrogate` does where F has a gradient."""
    if isinstance(method, SurrogateSettings):
        return problem.high_fidelity.differentiable
    return not isinstance(method, (ImportanceSettings, NoFinetuningSettings))


def trains_given_weights(method: MethodSettings, problem: Problem) -> bool:
    """Whether the method uses the weights that it is given; `surrogate` does in few parameters, and
    for images under a prior that is not Gaussian.
    """
    if not isinstance(method, SurrogateSettings):
        return True
    if learns_linear(problem):
        return stationary_prior(problem) is None
    return math.prod(problem.model_shape) <= FEW_PARAMETERS


def wrap(
    flow: Flow, architecture: dict, method: MethodSettings, problem: Problem
) -> tuple[Flow, dict]:
    """The flow that the method trains.

    - `latent`: the given one, frozen, under a Gaussian latent.
    - `surrogate` with a linear F: a Gaussian in closed form where the prior is a stationary
      Gaussian, and else the given flow with a Gaussian latent, which is set at the end (a dense one
      up to 6000 parameters).
    - `surrogate` else, in few parameters: the given one with splines in its latent, which wait
      until they are needed; in more a flow that starts as the identity, on top of an affine map
      which carries the Gaussian of the model's posterior.

    Arguments:
        flow: as given.
        architecture: arguments of `build_flow` for it.
        method: after `objective: auto` has been decided.
        problem: with the prior of the posterior.
    """
    if isinstance(method, LatentGaussianSettings):
        latent = {"covariance": method.covariance, "rank": method.rank}
        return under_latent(flow, architecture, latent)
    if not isinstance(method, SurrogateSettings):
        return flow, architecture
    device = next(flow.parameters()).device
    shapes = {key: architecture[key] for key in ("model_shape", "data_shape")}
    linear = learns_linear(problem)
    if not trains_given_weights(method, problem):
        affine = {"name": "affine", **shapes, "base": architecture}
        described = {"name": "stationary", **shapes} if linear else affine
        return build_flow(**described).to(device), described
    if not linear:
        described = {"name": "spline_latent", **shapes, "base": architecture}
        return SplineLatent(**shapes, base=flow).to(device), described
    kind = "dense" if math.prod(problem.model_shape) <= DENSE else "principal"
    wrapped, described = under_latent(flow, architecture, {"covariance": kind, "rank": 0})
    wrapped.base.requires_grad_(True)
    wrapped.closed.freeze()
    return wrapped, described


def objective_of(
    method: FinetuningSettings, target: Target, reused_evaluations: Evaluation | None = None
) -> tuple[TargetObjective, Optimiser]:
    """The objective, and the optimiser that belongs to it.

    Arguments:
        method: after `objective: auto` has been decided.
        target: p~, and the count of its evaluations.
        reused_evaluations: of another method, for one that starts from them.
    """
    stopping = _stopping(method, target)
    if isinstance(method, ReverseKLSettings):
        optimiser = Optimiser(
            method.learning_rate,
            method.warmup,
            method.schedule,
            method.decay,
            method.decay_steps,
            method.clip,
        )
        stopping = _stopping(
            dataclasses.replace(method, evaluations=method.evaluations - kept_for_latent(method)),
            target,
        )
        return (
            ReverseKL(target, stopping, method.batch, method.gradient, method.anneal, method.keep),
            optimiser,
        )
    if isinstance(method, SurrogateSettings) and learns_linear(target.problem):
        return _linear_surrogate(method, target, stopping)
    if isinstance(method, SurrogateSettings):
        optimiser = Optimiser(2e-3, clip=100.0, betas=(0.9, 0.99))
        sizes = (math.prod(target.problem.model_shape), math.prod(target.problem.data_shape))
        if too_large := why_too_large(method.evaluations, *sizes, method.memory_gb):
            raise PflowError(f"{too_large}: choose score_replay or reverse_kl, or raise it")
        settings = (method.low_fidelity, target.seed, method.target_shift)
        return Surrogate(target, stopping, *settings), optimiser
    if isinstance(method, ScoreReplaySettings):
        optimiser = Optimiser(2e-3, clip=100.0, betas=(0.9, 0.99))
        if not method.finish:
            return (
                ScoreReplay(
                    target, stopping, method.draw, method.inner, method.batch, reused_evaluations
                ),
                optimiser,
            )
        part = dataclasses.replace(
            method, evaluations=max(1, round(method.evaluations * (1 - method.finish)))
        )
        replay = ScoreReplay(
            target,
            _stopping(part, target),
            method.draw,
            method.inner,
            method.batch,
            reused_evaluations,
        )
        return Hybrid(replay, ReverseKL(target, stopping, 16, "path")), optimiser
    if isinstance(method, LatentGaussianSettings) and method.fit == "match_scores":
        return BatchAndMatch(target, method.batch, stopping), Optimiser(method.learning_rate)
    if isinstance(method, LatentGaussianSettings):
        return ReverseKL(target, stopping, method.batch, "path"), Optimiser(
            method.learning_rate, method.warmup, "cosine", clip=10.0
        )
    if isinstance(method, ImportanceSettings):
        return Importance(target, stopping, method.draw, method.inner, method.batch), Optimiser(
            method.learning_rate, 20, clip=10.0
        )
    raise TypeError(f"no objective for {type(method).__name__}")


def _linear_surrogate(
    method: SurrogateSettings, target: Target, stopping: Stopping
) -> tuple[TargetObjective, Optimiser]:
    sizes = (math.prod(target.problem.model_shape), math.prod(target.problem.data_shape))
    if too_large := why_range_too_large(method.evaluations, *sizes, method.memory_gb):
        raise PflowError(f"{too_large}: choose reverse_kl, or raise it")
    # gradients of images are sums over pixels
    optimiser = Optimiser(1e-3, warmup=20, clip=100.0 * sizes[0], betas=(0.9, 0.99))
    return LinearSurrogate(target, stopping, method.steps or MOST_STEPS), optimiser


def _stopping(method: FinetuningSettings, target: Target) -> Stopping:
    targets = (method.target_ess_fraction, method.target_score_error, method.target_elbo_change)
    return Stopping(method.evaluations, *targets, share=target.ledger.share)
