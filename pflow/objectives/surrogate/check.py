r"""The ELBO of a candidate posterior q, from a few evaluations of F and free draws.

    E_q[log p~ - log q]                            over the n draws that were evaluated, or
    E_q[log L - log L^] + E_q[log p^ - log q]      the first over these, the second over free draws

with p^ and L^ of the model of F. Where the model is good log L - log L^ hardly varies, and the
second form knows the difference of two candidates far better than n draws of each can tell. The
form with the smaller standard error is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["Checked", "checked"]

FREE_DRAWS = 512


@dataclass(frozen=True)
class Checked:
    """What the draws of a candidate told.

    Attributes:
        elbo, error: in nats, with its standard error; -inf and infinite where F is not valid at all
            draws.
        model_error: standard deviation of log L - log L^, in nats; None without a valid draw.
    """

    elbo: float
    error: float
    model_error: float | None


@torch.no_grad()
def checked(
    flow: Flow,
    target: Target,
    posterior: OperatorModel,
    draws: int,
    round_: int,
    generator: torch.Generator,
) -> Checked:
    """Evaluate draws of a flow.

    Arguments:
        flow: q.
        target: p~ and its ledger, which counts the draws.
        posterior: p^.
        draws: n.
        round_: number of the round, for the store of evaluations.
        generator: of all draws.
    """
    x, log_q = flow.sample_with_log_prob(target.summary, draws, generator)
    drawn = target.evaluate(x, round_)
    if not drawn.valid.any():
        return Checked(-math.inf, math.inf, None)
    v = posterior.model.whiten(x[drawn.valid])
    missed = drawn.log_likelihood[drawn.valid].to(v) - posterior.log_likelihood(v)
    model_error = float(missed.std(correction=0))
    if not drawn.valid.all() or draws < 2:
        return Checked(-math.inf, math.inf, model_error)
    evaluated = _mean((drawn.log_density - log_q).double())
    x, log_q = flow.sample_with_log_prob(target.summary, FREE_DRAWS, generator)
    log_density = posterior.log_density(posterior.model.whiten(x)) - posterior.model.log_determinant
    (offset, error), (known, known_error) = _mean(missed), _mean(log_density - log_q.to(v))
    by_model = offset + known, math.hypot(error, known_error)
    better = by_model[1] < evaluated[1]  # not where the model is not finite
    return Checked(*(by_model if better else evaluated), model_error)


def _mean(numbers: Tensor) -> tuple[float, float]:
    """And its standard error."""
    return float(numbers.mean()), float(numbers.std() / math.sqrt(len(numbers)))
