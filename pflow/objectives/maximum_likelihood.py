"""Stage 1, amortised over y: minimise -E[log q_theta(x given y)] over pairs.

For a flow with a data lane (conditional HINT) the paper maximises the joint density of the pair,
log q_theta(x given y) + log q_theta(y); each flow defines it in `log_prob_pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.base import Objective

__all__ = ["MaximumLikelihood", "Pairs", "mean_negative_log_likelihood"]


@runtime_checkable
class Pairs(Protocol):
    """Pairs in shuffled batches; the order of an epoch depends on a seed alone."""

    def __len__(self) -> int:
        """How many pairs."""

    def batches(self, seed: int, batch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, from batch number `first`."""

    def in_order(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All pairs once."""


class MaximumLikelihood(Objective):
    """-1/B sum_i log q_theta(x_i given y_i) over shuffled batches of B pairs.

    Arguments:
        pairs: models x and data y.
        batch: B; the last batch of an epoch is smaller where B does not divide the pairs.
        epochs: passes over the pairs.
        share: (r, n): of n processes this is number r, and takes the rows r, r + n, ... of each
            batch. The mean of the n losses is the loss of the whole batch, and so is that of their
            gradients.
        log_prob_pairs: (x, y) -> log density, where another module stands before the flow's own.
    """

    def __init__(
        self,
        pairs: Pairs,
        batch: int,
        epochs: int,
        share: tuple[int, int] = (0, 1),
        log_prob_pairs: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.pairs, self.batch, self.epochs, self.share, self.log_prob_pairs = (
            pairs,
            batch,
            epochs,
            share,
            log_prob_pairs,
        )
        self.steps_per_epoch = -(-len(pairs) // batch)
        self.step = -1
        self.order_seed = 0
        self._epoch: Iterator[tuple[Tensor, Tensor]] | None = None

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        self.step += 1
        if self.step >= self.epochs * self.steps_per_epoch:
            self.stop_reason = f"all {self.epochs} epochs done"
            return True
        within = self.step % self.steps_per_epoch
        if within == 0:
            self.order_seed = int(torch.randint(2**62, (), generator=generator))
        if within == 0 or self._epoch is None:
            self._epoch = self.pairs.batches(self.order_seed, self.batch, first=within)
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert self._epoch is not None, "`begin` starts an epoch"
        x, y = next(self._epoch)
        rank, size = self.share
        log_prob_pairs = self.log_prob_pairs or flow.log_prob_pairs
        return -log_prob_pairs(x[rank::size], y[rank::size]).sum() * (size / len(x)), {}

    def fraction(self) -> float:
        return max(self.step, 0) / (self.epochs * self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """Epochs completed before the current step."""
        return self.step // self.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "order_seed": self.order_seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.order_seed, self._epoch = state["step"], state["order_seed"], None


@torch.no_grad()
def mean_negative_log_likelihood(flow: Flow, pairs: Pairs, batch: int = 4096) -> float:
    """-E[log q_theta] over held-out pairs, in batches."""
    return -sum(
        float(flow.log_prob_pairs(x, y).double().sum()) for x, y in pairs.in_order(batch)
    ) / len(pairs)
