"""Detects and restores modes of the posterior that the flow has lost, with the model of the values.

Draws of the model where the flow has practically no density are suspects. A quarter of the next
round's points goes there. Unless the operator refutes them, and while KL(p^ || q) is not small, the
round's loss gets the term KL(p^ || q) over draws of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.objectives.replay.posterior_model import TRUSTED, PosteriorModel

__all__ = ["SMALL", "LostModes", "find_lost_modes"]

SUSPICIOUS = (
    0.005  # share of the model's posterior that the flow lacks, above which it is looked at
)
CONFIRMED = 3.0  # nats by which an evaluated suspect may differ from the model
SMALL = 0.01  # nats of model divergence: below, forward KL is left out


@dataclass(frozen=True)
class LostModes:
    """What the model of the posterior says of the flow.

    Attributes:
        suspects: points to evaluate next, and log p~ there by the model, (n, D + 1); None for none.
        draws: of the model, for the forward KL of this round, (n, *model); None where it is left
            out.
        missing: share of the model's posterior that the flow lacks; None where unknown.
        confirmed: whether most suspects, once evaluated, were as likely as the model said; None
            before that.
    """

    suspects: Tensor | None = None
    draws: Tensor | None = None
    missing: float | None = None
    confirmed: bool | None = None

    def tested(self, evaluated: Evaluation) -> LostModes:
        """The same after the evaluation of the suspects."""
        assert self.suspects is not None
        error = (evaluated.log_density - self.suspects[:, -1]).abs()
        return replace(self, confirmed=bool((error < CONFIRMED).double().mean() > 0.5))

    @property
    def gaining(self) -> bool:
        """Whether this round is to gain a mode."""
        return self.draws is not None and (self.missing or 0.0) > SUSPICIOUS

    @property
    def warning(self) -> str:
        """What the evidence says against the result; empty if nothing."""
        if self.missing is not None and self.missing > 2 * SUSPICIOUS:
            return (
                f"about {self.missing:.0%} of the posterior seems to lie where the flow has no"
                " draws: a mode may be lost; raise `evaluations`"
            )
        return ""


def find_lost_modes(
    posterior: PosteriorModel | None,
    flow: Flow,
    log_q_of_own_draws: Tensor,
    most: int,
    confirmed: bool | None,
) -> LostModes:
    """Suspects, and draws for the forward KL of this round.

    Arguments:
        posterior: the model of the posterior; None where there is none yet.
        flow: the current q.
        log_q_of_own_draws: log q at draws of the flow, (draws,).
        most: the largest number of suspects.
        confirmed: whether the last suspects, evaluated, were as likely as the model said; None if
            there were none.
    """
    beyond = None if posterior is None else posterior.beyond(flow, log_q_of_own_draws)
    if posterior is None or posterior.draws is None or beyond is None:
        return LostModes()
    missing, suspects = len(beyond) / len(posterior.draws), None
    if missing > SUSPICIOUS:
        chosen = beyond[:most]
        log_density = posterior.log_density(chosen).to(chosen)
        suspects = torch.cat([chosen.flatten(1), log_density[:, None]], 1)
    # far away the model may err by nats and still know both modes: evaluations there have the last
    # word
    trusted = posterior.likelihood.error < TRUSTED if confirmed is None else confirmed
    regain = trusted and (posterior.forward_divergence(flow) or 0.0) > SMALL
    return LostModes(suspects, posterior.draws if regain else None, missing)
