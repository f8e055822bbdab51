"""Fine-tuning from values alone, for an operator without a gradient: forward KL over
importance-weighted points.

Points x_i are drawn in rounds, evaluated once and kept. All N points together are draws of the
mixture of the rounds' flows, so that with

    log w_i = log p~(x_i) - log sum_r (n_r / N) q_{theta_r}(x_i)        (deterministic-mixture
                                                                        weights)

sum_i w_i log q_theta(x_i) / sum_i w_i estimates E_posterior[log q_theta], whose maximiser is the
posterior. While a few points have most of the weight, they are raised to the power b < 1 that
leaves an effective sample size of a quarter of the points: the flow then moves towards the
posterior as far as the points allow.

The same sum over all points, fresh ones included, tests each round: a round that raised it is
undone, at its end or after the next draws, and the points are kept. (The ELBO is not a suitable
test: it is lower at first when a flow spreads over a second mode.)

References:
    | Owen, Zhou (2000), Safe and effective importance sampling
    | Cornuet, Marin, Mira, Robert (2012), Adaptive multiple importance sampling,
    https://arxiv.org/abs/0907.1254
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pflow.flows.base import Flow, standard_normal_log_density
from pflow.inference.target import Target
from pflow.objectives.best_state import weights_of
from pflow.objectives.stopping import Stopping, effective_fraction
from pflow.objectives.target_objective import TargetObjective
from pflow.objectives.valid_draws import require_valid

__all__ = ["Importance", "tempering_power"]

KEPT = 0.25  # effective share of the points that tempering leaves


class Importance(TargetObjective):
    """-sum_i w_i^b log q_theta(x_i) / sum_i w_i^b over a minibatch of all points evaluated so far.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets.
        draw: points a round.
        inner: steps a round.
        batch: points in a step, drawn in proportion to their weight.
    """

    def __init__(
        self, target: Target, stopping: Stopping, draw: int, inner: int, batch: int
    ) -> None:
        super().__init__(target, stopping)
        self.draw, self.inner, self.batch = draw, inner, batch
        self.step, self.power = 0, 0.0
        self.x, self.log_density, self.log_proposals = (
            torch.empty(0),
            torch.empty(0),
            torch.empty(0, 0),
        )
        self.counts: list[int] = []
        self.proposals: list[dict[str, Tensor]] = []
        self.weight = torch.empty(0)
        self.round_start: dict[str, Tensor] = {}
        self.undone = 0

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        if self.step % self.inner == 0:
            self._undo_what_did_harm(flow)
            self.stop_reason = self.stopping.reason(self.target.ledger.points)
            if self.stop_reason:
                return True
            self._open_round(flow, generator)
        self.step += 1
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.multinomial(self.weight, self.batch, replacement=True, generator=generator)
        x = self.x[chosen].to(self.target.y.device)
        return -flow.log_prob(x, self.target.summary).mean(), {"tempering": self.power}

    @torch.no_grad()
    def _undo_what_did_harm(self, flow: Flow) -> None:
        """Restore the start of the round if it was better over all points."""
        if not self.round_start:
            return
        before, after = (
            float(self.weight @ self._log_q(flow, weights, self.x).double())
            for weights in (self.round_start, weights_of(flow))
        )
        if not after >= before:
            flow.load_state_dict(self.round_start)
            self.undone += 1

    @torch.no_grad()
    def _open_round(self, flow: Flow, generator: torch.Generator) -> None:
        n = min(self.draw, self.stopping.points - self.target.ledger.points)
        x, log_q = flow.sample_with_log_prob(self.target.summary, n, generator)
        drawn = self.target.evaluate(x, len(self.counts))
        require_valid(drawn, self.target.problem)
        self.stopping.record(drawn, log_q)
        new = drawn.x[drawn.valid]
        rows = [self._log_q(flow, weights, new) for weights in self.proposals]
        self.proposals.append(weights_of(flow))
        self.x = torch.cat([self.x, new.cpu()]) if len(self.x) else new.cpu()
        self.log_density = torch.cat([self.log_density, drawn.log_density[drawn.valid].cpu()])
        old = torch.stack(rows) if rows else torch.empty(0, len(new))
        self.log_proposals = torch.cat([self.log_proposals, old], 1) if rows else old
        self.log_proposals = torch.cat(
            [self.log_proposals, self._log_q(flow, self.proposals[-1], self.x)[None]]
        )
        self.counts.append(len(new))
        share = torch.tensor(self.counts, dtype=torch.float64).log() - math.log(sum(self.counts))
        log_weight = self.log_density.double() - torch.logsumexp(
            self.log_proposals.double() + share[:, None], 0
        )
        self.power = tempering_power(log_weight)
        self.weight = torch.softmax(self.power * log_weight, 0)
        self._undo_what_did_harm(flow)
        self.round_start = weights_of(flow)

    def _log_q(self, flow: Flow, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        z, log_determinant = functional_call(
            flow, weights, (x.to(self.target.y.device), self.target.summary)
        )
        return (standard_normal_log_density(z) + log_determinant).cpu()

    def fraction(self) -> float:
        rounds = self.target.ledger.points - self.draw * (
            1 - (self.step % self.inner or self.inner) / self.inner
        )
        return min(1.0, max(0.0, rounds / self.stopping.points))

    def state_dict(self) -> dict[str, Any]:
        kept = (
            "step",
            "power",
            "x",
            "log_density",
            "log_proposals",
            "counts",
            "proposals",
            "weight",
            "round_start",
            "undone",
        )
        own = {name: getattr(self, name) for name in kept}
        return {
            "own": own,
            "ledger": self.target.ledger.state_dict(),
            "stopping": self.stopping.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state["own"])
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])


def tempering_power(log_weight: Tensor) -> float:
    """The largest b <= 1 for which the weights w^b have an effective share of at least KEPT, by
    bisection.
    """
    if effective_fraction(log_weight) >= KEPT:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if effective_fraction(middle * log_weight) >= KEPT else (low, middle)
        )
    return low
