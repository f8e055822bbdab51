"""After the training of a method: the Gaussian of the latent that its evaluations ask for, kept
where it proves itself.

`objectives/latent_correction.py` says what is fitted. A better fit of scores is not yet a posterior
that is nearer: from few points of a flow that is far away the fit makes directions too wide. So the
corrected flow is tried. `reverse_kl` keeps a quarter of its budget: most of it for draws of the
finished flow, which are those the fit is about, the rest for draws of corrected ones, whose ELBO
must not be lower: of these the one with the smallest ridge, which bisection finds. Score replay
spends all of its budget on learning, and its correction must explain the scores so much better that
there is no doubt.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pflow.config.methods import MethodSettings, ReverseKLSettings
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.latent import LatentGaussian
from pflow.inference.target import Evaluation, Target
from pflow.objectives.latent_correction import MOST_UNKNOWNS, TIE, LatentCorrection, fit_latent
from pflow.objectives.replay.score_model import DENSE

__all__ = [
    "correct_latent",
    "kept_for_latent",
    "require_correctable",
    "under_latent",
    "wants_correction",
]

KEPT = 0.25  # of the budget
CHECK, TRIES = 32, 5  # draws that a corrected flow is judged by, and how many are judged
# Where the search begins: of posteriors that are equally near by KL, which favours narrow ones, the
# widest
WIDE_TIE = 1.1
NEAR, CLEAR = (
    0.5,
    0.5,
)  # without a check: largest score error of the flow, and largest part of it that may be left


def require_correctable(method: MethodSettings, where: str, model_shape: Sequence[int]) -> None:
    """Refuse `correct_latent` where its matrix would be too large, before anything is spent."""
    unknowns = math.prod(model_shape)
    if getattr(method, "correct_latent", None) and unknowns > MOST_UNKNOWNS:
        raise PflowError(
            f"`correct_latent` keeps a dense matrix of the unknowns (={unknowns}), and they must be"
            f" at most {MOST_UNKNOWNS} for that: remove it from {where}"
        )


def wants_correction(method: MethodSettings, model_shape: Sequence[int], points: int) -> bool:
    """Whether a Gaussian of the latent is to be fitted after training; score replay decides by
    itself where nothing is said.
    """
    choice, unknowns = getattr(method, "correct_latent", False), math.prod(model_shape)
    return DENSE < unknowns <= min(points, MOST_UNKNOWNS) if choice is None else choice


def kept_for_latent(method: MethodSettings) -> int:
    """Evaluations of the budget that training leaves."""
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
    known: Evaluation | None = None,
) -> tuple[Flow, dict, LatentCorrection | None]:
    """The flow under the Gaussian latent that `known` and all evaluations of the target ask for; as
    it was, and None, where there is none or none proves itself.
    """
    flow.requires_grad_(False)
    left = (
        min(kept_for_latent(method), method.evaluations - target.ledger.evaluations)
        / target.ledger.share
    )
    draws = int(left + 1e-9) - CHECK * TRIES
    finished = 1 + int(
        target.store.take(target.ledger.asked[-1:], ["round"])["round"].max(initial=0)
    )
    elbo = _elbo(flow, target, draws, generator, finished) if draws >= CHECK else None
    evaluated = target.recalled(target.store.take(target.ledger.asked))
    if known is not None:
        evaluated = Evaluation(
            *(
                torch.cat([getattr(known, part.name), getattr(evaluated, part.name)])
                for part in dataclasses.fields(Evaluation)
            )
        )
    candidates = (
        fit_latent(flow, target.summary, evaluated, TIE)[:1]
        if elbo is None
        else fit_latent(flow, target.summary, evaluated, WIDE_TIE)
    )
    low, high = 0, len(candidates)
    found: tuple[Flow, dict, LatentCorrection | None] = flow, architecture, None
    for number in range(finished + 1, finished + 1 + TRIES):
        if low == high:
            break
        middle = (low + high) // 2
        correction = candidates[middle]()
        corrected, described = under_latent(flow, architecture, {"covariance": "dense", "rank": 0})
        corrected.latent.set_moments(correction.mean, correction.covariance)
        if elbo is None:
            proven = (
                correction.flow_error < NEAR and correction.error < CLEAR * correction.flow_error
            )
        else:
            proven = bool(_elbo(corrected, target, CHECK, generator, number) >= elbo)
        if proven:
            found, high = (corrected, described, correction), middle
        else:
            low = middle + 1
    return found


def under_latent(flow: Flow, architecture: dict, latent: dict) -> tuple[Flow, dict]:
    """`flow`, frozen, under a Gaussian latent with the settings `latent`, and the architecture of
    both.
    """
    outer = {key: architecture[key] for key in ("model_shape", "data_shape")}
    wrapped = LatentGaussian(**outer, base=flow, **latent).to(next(flow.parameters()).device)
    return wrapped, {"name": "latent_gaussian", **outer, "base": architecture, **latent}


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
