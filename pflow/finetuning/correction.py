"""After training: a Gaussian latent fitted to the scores of all evaluations, kept if a test finds
it better.

`objectives/latent_correction.py` defines the fit. A better fit of scores does not imply a smaller
divergence: with few points, or a flow far from the posterior, the fit makes directions too wide. So
each corrected flow is tested. `reverse_kl` reserves a quarter of its budget for this: most of it
for draws of the trained flow, to which the Gaussian is fitted, the rest for draws of corrected
flows. A corrected flow passes if its ELBO is not lower. Among those that pass, bisection finds the
one with the smallest ridge. Score replay spends its whole budget on training; its correction passes
if it at least halves a score error that is already small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from pflow.config.methods import MethodSettings, ReverseKLSettings, ScoreReplaySettings
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.latent import LatentGaussian
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.latent_correction import MOST_UNKNOWNS, TIE, LatentCorrection, fit_latent
from pflow.objectives.replay.score_model import DENSE

__all__ = [
    "CorrectedFlow",
    "correct_latent",
    "explains_scores_clearly_better",
    "first_accepted",
    "kept_for_latent",
    "require_correctable",
    "under_latent",
    "wants_correction",
]

KEPT = 0.25  # of the budget
CHECK, TRIES = 32, 5  # draws that test a corrected flow, and the largest number of flows tested
# The search begins with the widest posterior, because KL favours narrow ones
WIDE_TIE = 1.1
# Without evaluations for a test: largest score error of the flow, and largest part of it that may
# remain
NEAR, CLEAR = 0.5, 0.5

Candidate, Result = TypeVar("Candidate"), TypeVar("Result")


@dataclass(frozen=True)
class CorrectedFlow:
    """A flow after its correction, or unchanged.

    Attributes:
        flow: with the Gaussian latent, or unchanged.
        architecture: arguments of `build_flow` for it.
        correction: the Gaussian; None if the flow is unchanged.
    """

    flow: Flow
    architecture: dict
    correction: LatentCorrection | None


def require_correctable(method: MethodSettings, where: str, model_shape: Sequence[int]) -> None:
    """Refuse `correct_latent` where its matrix would be too large, before any evaluation."""
    unknowns = math.prod(model_shape)
    if _choice(method) and unknowns > MOST_UNKNOWNS:
        raise PflowError(
            f"`correct_latent` has a dense matrix of the parameters (={unknowns}), and they must be"
            f" at most {MOST_UNKNOWNS} for that: remove it from {where}"
        )


def wants_correction(method: MethodSettings, model_shape: Sequence[int], points: int) -> bool:
    """Whether a Gaussian of the latent is to be fitted after training; without the setting, score
    replay decides.
    """
    choice, unknowns = _choice(method), math.prod(model_shape)
    return DENSE < unknowns <= min(points, MOST_UNKNOWNS) if choice is None else choice


def _choice(method: MethodSettings) -> bool | None:
    """The setting `correct_latent`; False for methods without it."""
    has_one = isinstance(method, (ReverseKLSettings, ScoreReplaySettings))
    return method.correct_latent if has_one else False


def kept_for_latent(method: MethodSettings) -> int:
    """Evaluations of the budget that are reserved for the correction."""
    return (
        int(KEPT * method.evaluations)
        if isinstance(method, ReverseKLSettings) and method.correct_latent
        else 0
    )


def correct_latent(
    flow: Flow,
    architecture: dict,
    method: MethodSettings,
    target: Target,
    generator: torch.Generator,
    reused_evaluations: Evaluation | None = None,
) -> CorrectedFlow:
    """The flow with the Gaussian latent fitted to the scores of all evaluations; the unchanged flow
    if none is fitted or none passes its test.

    Arguments:
        flow: after training; frozen here.
        architecture: of the flow.
        method: that trained it.
        target: with all evaluations that were made.
        generator: of the draws that test a correction.
        reused_evaluations: those of another method, besides all of the target's.
    """
    flow.requires_grad_(False)
    round_numbers = itertools.count(_next_round(target))
    elbo = None
    draws = _draws_left(method, target)
    if draws >= CHECK:
        elbo = _elbo(flow, target, draws, generator, next(round_numbers))
    evaluations = _all_evaluations(target, reused_evaluations)
    corrections = fit_latent(flow, target.summary, evaluations, TIE if elbo is None else WIDE_TIE)

    def accepted(corrected: CorrectedFlow) -> bool:
        if elbo is None:
            return explains_scores_clearly_better(corrected.correction)
        new_elbo = _elbo(corrected.flow, target, CHECK, generator, next(round_numbers))
        return bool(new_elbo >= elbo)

    best = first_accepted(
        corrections[:1] if elbo is None else corrections,
        lambda make: _apply(make(), flow, architecture),
        accepted,
        TRIES,
    )
    return best or CorrectedFlow(flow, architecture, None)


def first_accepted(
    candidates: Sequence[Candidate],
    make: Callable[[Candidate], Result],
    accepted: Callable[[Result], bool],
    tries: int,
) -> Result | None:
    """Bisection for the first candidate that is accepted, where all after an accepted one are too;
    the best of those tried where `tries` are too few, None where none was accepted.

    Arguments:
        candidates: those that are accepted come last.
        make: makes the flow of a candidate; called only for those that are tested.
        accepted: the test.
        tries: how many candidates are tested at most.
    """
    low, high, best = 0, len(candidates), None
    for _ in range(tries):
        if low == high:
            break
        middle = (low + high) // 2
        result = make(candidates[middle])
        if accepted(result):
            best, high = result, middle
        else:
            low = middle + 1
    return best


def explains_scores_clearly_better(correction: LatentCorrection) -> bool:
    """The test of a correction for which no evaluation is left: the score error of the flow is
    small, so that the fit is local, and the correction at least halves it.
    """
    return correction.flow_error < NEAR and correction.error < CLEAR * correction.flow_error


def under_latent(flow: Flow, architecture: dict, latent: dict) -> tuple[LatentGaussian, dict]:
    """`flow`, frozen, under a Gaussian latent with the settings `latent`, and the architecture of
    both.
    """
    outer = {key: architecture[key] for key in ("model_shape", "data_shape")}
    wrapped = LatentGaussian(**outer, base=flow, **latent).to(next(flow.parameters()).device)
    return wrapped, {"name": "latent_gaussian", **outer, "base": architecture, **latent}


def _apply(correction: LatentCorrection, flow: Flow, architecture: dict) -> CorrectedFlow:
    corrected, described = under_latent(flow, architecture, {"covariance": "dense", "rank": 0})
    corrected.latent.set_root(correction.mean, correction.root)
    return CorrectedFlow(corrected, described, correction)


def _draws_left(method: MethodSettings, target: Target) -> int:
    """Draws of the trained flow within the budget, besides those of corrected flows."""
    left = min(kept_for_latent(method), method.evaluations - target.ledger.evaluations)
    return int(left / target.ledger.share + 1e-9) - CHECK * TRIES


def _next_round(target: Target) -> int:
    """The number after that of the last round of training, for the store."""
    newest = target.store.take(target.ledger.asked[-1:], ["round"])["round"]
    return 1 + int(newest.max(initial=0))


def _all_evaluations(target: Target, reused: Evaluation | None) -> Evaluation:
    """Reused ones, then those of this run, in the order asked."""
    own = target.recalled(target.store.take(target.ledger.asked))
    return own if reused is None else reused.followed_by(own)


@torch.no_grad()
def _elbo(
    flow: Flow, target: Target, draws: int, generator: torch.Generator, round_number: int
) -> Tensor:
    """Mean of log p~ - log q over fresh draws, which are evaluated."""
    log_weights = []
    for first in range(0, draws, CHECK):
        x, log_q = flow.sample_with_log_prob(target.summary, min(CHECK, draws - first), generator)
        drawn = target.evaluate(x, round_number)
        log_weights.append((drawn.log_density - log_q)[drawn.valid])
    return torch.cat(log_weights).mean()
