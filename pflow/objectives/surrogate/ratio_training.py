r"""How a flow learns the posterior of a model in few parameters, where it may have several modes.

    d(x) = log q(x) - log p^(x) - c
    log-variance    1/2 E_r[d^2],    r half q and half p^, c the centre of d

The gradient of a path cannot tell how much mass a mode has: it sees scores, which are right in each
mode whatever its mass. d is not: it differs between modes of wrong mass, is negative where q lacks
one, and large on a bridge between two. The loss, its gradient and their noise vanish where q is p^,
and near there the loss is KL(q || p^). Large |d| count linearly. Where there is one mode a score
teaches more than a single number: a flow takes path gradients until splines, which are for several
modes, join.

Training goes in cycles, each with a step size that falls to zero. After a cycle draws that were
held out, and fresh ones of q, judge the weights, and the best ones go on. It ends once they are
good, or no cycle makes them better. A flow that is poor after a cycle begins anew with splines in
its latent: what it has bent into a bridge between modes they cannot straighten. Maximum likelihood
over draws of p^ opens both.

References:
    | VarGrad: a low-variance gradient estimator for variational inference (Richter et al., 2020)
    | https://arxiv.org/abs/2010.10436
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pflow.flows.base import Flow
from pflow.flows.spline_latent import SplineLatent
from pflow.objectives.reverse_kl import path_loss
from pflow.objectives.surrogate.flow_training import BATCH as PATH_BATCH
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["RatioTraining"]

BATCH, HELD_OUT = 128, 512  # draws of p^, and as many of q
CYCLE, SPLINE_CYCLE, WARM_UP = 500, 1000, 20  # steps
LARGE = 20.0  # nats of |d| beyond which it counts linearly
GOOD = 5e-5  # nats of loss that need no further cycle
POOR = 0.025  # nats a parameter, beyond which splines join
BETTER, PATIENCE = 0.7, 2  # a cycle that leaves more of the loss has failed; failures that end all


class RatioTraining:
    """The losses, the step size, and the best weights.

    Arguments:
        summary: what the flow sees of the observation.
    """

    def __init__(self, summary: Tensor) -> None:
        self.summary = summary
        self.pool = self.log_density = torch.empty(0)
        self.begun = 0  # the step at which the weights were the first ones
        self.best_loss, self.failed = math.inf, 0
        self.first_weights: dict[str, Tensor] = {}
        self.best_weights: dict[str, Tensor] = {}

    def start(self, pool: Tensor, posterior: OperatorModel, flow: Flow) -> None:
        """Learn from draws of p^, (n, *model) with n at least twice those held out."""
        self.pool, self.log_density = pool, _log_density(posterior, pool)
        self.first_weights = copy.deepcopy(flow.state_dict())

    @property
    def ended(self) -> bool:
        """Whether more cycles are not worth their time."""
        return self.best_loss < GOOD or self.failed >= PATIENCE

    @property
    def cycle(self) -> int:
        """Steps of a cycle."""
        return SPLINE_CYCLE if self.begun else CYCLE

    def learning_rate_factor(self, step: int, fraction: float) -> float:
        """A cosine over each cycle; after `step` steps."""
        within = (step - self.begun) % self.cycle
        shape = 0.5 * (1 + math.cos(math.pi * within / self.cycle))
        return shape * min(1.0, (within + 1) / WARM_UP)

    def loss(
        self, flow: Flow, posterior: OperatorModel, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """That of step 1, 2, ... and numbers for the history."""
        opening = step - self.begun <= self.cycle // 2
        count = 2 * BATCH if opening else BATCH
        chosen = torch.randint(len(self.pool) - HELD_OUT, (count,), generator=generator) + HELD_OUT
        chosen = chosen.to(self.pool.device)
        if opening:
            return -flow.log_prob(self.pool[chosen], self.summary).mean(), {}
        if not self.begun:
            loss, elbo = path_loss(flow, self.summary, posterior.at_models, PATH_BATCH, generator)
            return loss, {"objective_nats": -elbo}
        return self._log_variance(flow, posterior, chosen, generator), {}

    def close_cycle(
        self, flow: Flow, posterior: OperatorModel, step: int, generator: torch.Generator
    ) -> None:
        """After the last step of a cycle: judge the weights, and put those that go on into
        `flow`.
        """
        if step == self.begun or (step - self.begun) % self.cycle:
            return
        self._judge(flow, posterior, generator)
        poor = self.best_loss > POOR * self.pool[0].numel()
        if poor and isinstance(flow, SplineLatent) and not flow.awake:
            self.begun, self.best_loss, self.failed = step, math.inf, 0
            self.best_weights = {}
            flow.load_state_dict(self.first_weights)
            flow.wake()

    def keep_best(self, flow: Flow) -> None:
        """Put the best weights into `flow`."""
        if self.best_weights:
            flow.load_state_dict(self.best_weights)

    @torch.no_grad()
    def _judge(self, flow: Flow, posterior: OperatorModel, generator: torch.Generator) -> None:
        held_out = torch.arange(HELD_OUT, device=self.pool.device)
        loss = float(self._log_variance(flow, posterior, held_out, generator))
        self.failed = 0 if loss < BETTER * self.best_loss else self.failed + 1
        if loss < self.best_loss:
            self.best_loss, self.best_weights = loss, copy.deepcopy(flow.state_dict())
        self.keep_best(flow)

    def _log_variance(
        self, flow: Flow, posterior: OperatorModel, chosen: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss over these draws of p^ and as many fresh ones of q."""
        with torch.no_grad():
            drawn = flow.sample(self.summary, len(chosen), generator)
        x = torch.cat([self.pool[chosen], drawn])
        log_density = torch.cat([self.log_density[chosen], _log_density(posterior, drawn)])
        finite = log_density.isfinite()
        d = flow.log_prob(x[finite], self.summary) - log_density[finite]
        d = d - d.detach().median()
        d = d - d.detach().clamp(-LARGE, LARGE).mean()
        return F.huber_loss(d, torch.zeros_like(d), delta=LARGE)

    def state_dict(self) -> dict[str, Any]:
        """Draws, counters, and weights."""
        return {
            "pool": self.pool,
            "log_density": self.log_density,
            "counters": [self.best_loss, self.begun, self.failed],
            "first_weights": dict(self.first_weights),
            "best_weights": dict(self.best_weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.pool, self.log_density = state["pool"], state["log_density"]
        self.best_loss, self.begun, self.failed = state["counters"]
        self.first_weights = dict(state["first_weights"])
        self.best_weights = dict(state["best_weights"])


@torch.no_grad()
def _log_density(posterior: OperatorModel, x: Tensor) -> Tensor:
    """log p^(x), not normalised, (n,)."""
    return posterior.log_density(posterior.model.whiten(x)).to(x)
