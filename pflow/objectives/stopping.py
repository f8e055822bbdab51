"""When fine-tuning stops: a budget of evaluations, or a target reached before it is spent.

Every evaluated draw also measures the flow that it was drawn from, at no extra cost: its log weight
log p~ - log q was not used in training before. The last `window` of them estimate the effective
sample size fraction and the ELBO.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pflow.inference.evaluation import Evaluation

__all__ = ["Stopping", "effective_fraction"]

NEEDED = 0.8  # effective sample size fraction above which importance weights correct the rest


class Stopping:
    """Budget and targets of one run.

    Arguments:
        evaluations: the budget.
        ess_fraction: stop when the effective sample size fraction of the window is at least this.
        score_error: stop when the mean of |S^T (grad log q - g)|^2 / D over the window is at most
            this, S^T the metric of the flow.
        elbo_change: stop when the ELBO of the window differs from that of the window before by at
            most this many nats (and by no more than three standard errors).
        window: draws in the window.
        share: evaluations that one point costs.
    """

    def __init__(
        self,
        evaluations: int,
        ess_fraction: float | None = None,
        score_error: float | None = None,
        elbo_change: float | None = None,
        window: int = 128,
        share: float = 1.0,
    ) -> None:
        self.evaluations, self.window, self.share = evaluations, window, share
        self.ess_fraction, self.score_error, self.elbo_change = (
            ess_fraction,
            score_error,
            elbo_change,
        )
        self.log_weights, self.score_errors = torch.empty(0), torch.empty(0)
        self.start: list[
            float
        ] = []  # effective sample size fraction of the first draws, and how many they are

    @property
    def points(self) -> int:
        """The number of points within the budget."""
        return int(self.evaluations / self.share + 1e-9)

    def record(self, drawn: Evaluation, log_q: Tensor, score_errors: Tensor | None = None) -> None:
        """Record freshly evaluated draws; invalid ones have weight zero.

        Arguments:
            drawn: evaluations at draws of q.
            log_q: log q at the same draws, (batch,).
            score_errors: |S^T (grad log q - g)|^2 / D of each draw, where `score_error` is a
                target.
        """
        log_weight = (
            torch.where(drawn.valid, drawn.log_density - log_q.detach(), -math.inf).float().cpu()
        )
        self.log_weights = torch.cat([self.log_weights, log_weight])[-2 * self.window :]
        if not self.start:
            self.start = [effective_fraction(log_weight), len(log_weight)]
        if score_errors is not None:
            self.score_errors = torch.cat([self.score_errors, score_errors.detach().float().cpu()])[
                -self.window :
            ]

    def reason(self, points: int) -> str:
        """The reason to stop after so many points; empty to continue."""
        recent, before = self.log_weights[-self.window :], self.log_weights[: -self.window]
        if len(recent) == self.window:
            fraction = effective_fraction(recent)
            if self.ess_fraction is not None and fraction >= self.ess_fraction:
                return (
                    f"the effective sample size fraction ({fraction:.2f} over {self.window} draws)"
                    f" reached its target {self.ess_fraction}"
                )
            error = (
                float(self.score_errors.mean())
                if len(self.score_errors) == self.window
                else math.inf
            )
            if self.score_error is not None and error <= self.score_error:
                return (
                    f"the score error ({error:.3g} per parameter over {self.window} draws) reached"
                    f" its target {self.score_error}"
                )
            if (
                self.elbo_change is not None
                and len(before) == self.window
                and torch.isfinite(self.log_weights).all()
            ):
                change = abs(float(recent.mean() - before.mean()))
                noise = 3 * math.sqrt(float(recent.var() + before.var()) / self.window)
                if change <= min(self.elbo_change, noise) or max(change, noise) <= self.elbo_change:
                    return (
                        f"the ELBO changed by {change:.3g} nats over {self.window} draws, at most"
                        f" {self.elbo_change} was asked for"
                    )
        if points >= self.points:
            targets = (self.ess_fraction, self.score_error, self.elbo_change)
            missed = (
                "; its target was not reached"
                if any(target is not None for target in targets)
                else ""
            )
            return f"the budget of {self.evaluations} evaluations is spent{missed}"
        return ""

    def diagnosis(self) -> str:
        """Whether fine-tuning was needed, from the first draws of the starting flow."""
        if not self.start:
            return ""
        if self.share < 1:
            return "whether fine-tuning is needed cannot be told from random subsets of the sources"
        fraction, draws = self.start
        need = "is needed" if fraction < NEEDED else "is hardly needed"
        return (
            f"the starting flow has an effective sample size fraction of {fraction:.2g} over"
            f" {int(draws)} draws: fine-tuning {need}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return {
            "log_weights": self.log_weights,
            "score_errors": self.score_errors,
            "start": self.start,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the window of `state`."""
        self.log_weights, self.score_errors, self.start = (
            state["log_weights"],
            state["score_errors"],
            state["start"],
        )


def effective_fraction(log_weight: Tensor) -> float:
    """(sum w)^2 / (n sum w^2), 0 where every weight is zero."""
    if not torch.isfinite(log_weight).any():
        return 0.0
    weight = (log_weight - log_weight.max()).double().exp()
    return float(weight.sum() ** 2 / (len(weight) * weight.square().sum()))
