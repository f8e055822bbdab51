r"""How a flow learns the posterior of a model, without evaluations of F.

    path gradient     KL(q || p^), E_z[ (d x / d theta)^T (grad log q - grad log p^)(x) ]  (arXiv
                      1703.09194)
    maximum likelihood  KL(p^ || q) over draws of p^: where it has several modes, or tails that
                        couplings cannot follow

Maximum likelihood knows the weight of modes and of tails, the path gradient has no noise near the
posterior. Draws are finite and a flow of many parameters soon knows them by heart: maximum
likelihood ends once draws that are held out like no newer weights better.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.reverse_kl import path_loss
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["BATCH", "FlowTraining"]

BATCH, LIKELIHOOD_BATCH = 64, 256
HELD_OUT, CHECK_EVERY = 8, 50  # an eighth of the draws judges the weights, every 50 steps
PATIENCE = 8  # checks without better weights that end maximum likelihood


class FlowTraining:
    """Losses and, for maximum likelihood, the best weights by draws that are held out.

    Arguments:
        summary: what the flow sees of the observation.
        pool: draws of p^, (n, *model); None where the path gradient needs none.
    """

    def __init__(self, summary: Tensor, pool: Tensor | None = None) -> None:
        self.summary, self.pool = summary, pool
        self.best_loss, self.stale = math.inf, 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def ended(self) -> bool:
        """Whether the draws have nothing more to teach."""
        return self.stale >= PATIENCE

    @staticmethod
    def learning_rate_factor(step: int, fraction: float) -> float:
        """A cosine; with this fraction of the steps behind."""
        return 0.5 * (1 + math.cos(math.pi * fraction))

    def start(self, pool: Tensor, posterior: OperatorModel, flow: Flow) -> None:
        """Learn from draws of p^, (n, *model), by maximum likelihood."""
        self.pool = pool

    def loss(
        self, flow: Flow, posterior: OperatorModel, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """That of step 1, 2, ... and numbers for the history."""
        if self.pool is not None:
            return self.likelihood_loss(flow, step, generator), {}
        loss, elbo = path_loss(flow, self.summary, posterior.at_models, BATCH, generator)
        return loss, {"objective_nats": -elbo}

    def likelihood_loss(self, flow: Flow, step: int, generator: torch.Generator) -> Tensor:
        """-E_p^[log q] over a batch of the draws."""
        if step % CHECK_EVERY == 1:
            self._see_held_out(flow)
        assert self.pool is not None, "maximum likelihood needs draws"
        learnt = self.pool[len(self.pool) // HELD_OUT :]
        chosen = torch.randint(len(learnt), (LIKELIHOOD_BATCH,), generator=generator)
        return -flow.log_prob(learnt[chosen.to(learnt.device)], self.summary).mean()

    def keep_best(self, flow: Flow) -> None:
        """Put the weights back that the held-out draws liked best."""
        if self.pool is not None:
            self._see_held_out(flow)
            flow.load_state_dict(self.best_weights)

    @torch.no_grad()
    def _see_held_out(self, flow: Flow) -> None:
        assert self.pool is not None, "held-out draws are an eighth of the pool"
        held_out = self.pool[: len(self.pool) // HELD_OUT]
        loss = float(-flow.log_prob(held_out, self.summary).mean())
        self.stale += 1
        if loss < self.best_loss:
            self.best_loss, self.stale = loss, 0
            self.best_weights = copy.deepcopy(flow.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Draws, best loss, checks since, and best weights."""
        return {
            "pool": self.pool,
            "loss": [self.best_loss, float(self.stale)],
            "weights": dict(self.best_weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.pool = state["pool"]
        self.best_loss, self.stale = state["loss"][0], int(state["loss"][1])
        self.best_weights = dict(state["weights"])
