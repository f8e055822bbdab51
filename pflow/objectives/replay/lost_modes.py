"""Detects and restores modes of the posterior that the flow has lost, with the model of the values.

Draws of the model where the flow has practically no density are suspects. A quarter of the next
round's points goes there. Unless the operator refutes them, and while KL(p^ || q) is not small, the
round's loss gets the term KL(p^ || q) over draws of the model.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.objectives.replay.posterior_model import TRUSTED, PosteriorModel

__all__ = ["SMALL", "LostModes"]

SUSPICIOUS = (
    0.005  # share of the model's posterior that the flow lacks, above which it is looked at
)
CONFIRMED = 3.0  # nats by which an evaluated suspect may differ from the model
SMALL = 0.01  # nats of model divergence: below, forward KL is left out


class LostModes:
    """What the model of the posterior says of the flow.

    Attributes:
        suspects: points to evaluate next, and log p~ there by the model, (n, D + 1); None for none.
        draws: of the model, for the forward KL of this round, (n, *model); None where it is left
            out.
        missing: share of the model's posterior that the flow lacks; None where unknown.
    """

    def __init__(self) -> None:
        self.suspects: Tensor | None = None
        self.draws: Tensor | None = None
        self.missing: float | None = None

    def search(
        self,
        posterior: PosteriorModel | None,
        flow: Flow,
        log_q_of_own_draws: Tensor,
        most: int,
        confirmed: bool | None,
    ) -> None:
        """Find suspects, at most `most`, and draws for the forward KL of this round.

        Arguments:
            posterior: the model of the posterior; None where there is none yet.
            flow: the current q.
            log_q_of_own_draws: log q at draws of the flow, (draws,).
            most: the largest number of suspects.
            confirmed: whether the last suspects, evaluated, were as likely as the model said; None
                if there were none.
        """
        self.suspects = self.missing = self.draws = None
        beyond = None if posterior is None else posterior.beyond(flow, log_q_of_own_draws)
        if beyond is None:
            return
        self.missing = len(beyond) / len(posterior.draws)
        if self.missing > SUSPICIOUS:
            chosen = beyond[:most]
            self.suspects = torch.cat(
                [chosen.flatten(1), posterior.log_density(chosen).to(chosen)[:, None]], 1
            )
        # far away the model may err by nats and still know both modes: evaluations there have the
        # last word
        trusted = posterior.likelihood.error < TRUSTED if confirmed is None else confirmed
        if trusted and posterior.forward_divergence(flow) > SMALL:
            self.draws = posterior.draws

    def confirmed(self, evaluated: Evaluation) -> bool:
        """Whether most suspects, now evaluated, are as likely as the model said."""
        return bool(
            ((evaluated.log_density - self.suspects[:, -1]).abs() < CONFIRMED).double().mean() > 0.5
        )

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

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {name: copy.copy(value) for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        vars(self).update({name: copy.copy(value) for name, value in state.items()})
