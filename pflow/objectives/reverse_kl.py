"""Stage 2, for one observation: minimise KL(q_theta(. given y_obs) || posterior) with fresh draws in every step.

    KL = E_z [ log q_theta(x) - log p~(x) ] + constant,   x = T_theta^{-1}(z; y_obs),   z ~ N(0, I)

The total gradient is the paper's. It contains E[grad_theta log q_theta(x)] at fixed x, whose mean is zero and whose
noise never vanishes; the path gradient drops it, so that its variance goes to zero with the divergence ("sticking the
landing"; Roeder, Wu, Duvenaud 2017, arXiv 1703.09194).

The operator is never differentiated through: with p~ and g known at the drawn x_i,
log p~(x) is replaced by log p~(x_i) + g(x_i) . (x - x_i), which has the same value and the same first derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pflow.errors import PflowError
from pflow.flows.base import Flow, standard_normal_log_density
from pflow.target import Target

__all__ = ["ReverseKL"]


class ReverseKL:
    """1/B sum_i [ log q_theta(x_i) - log p~(x_i) ] over B draws x_i of q_theta.

    Arguments:
        target: p~ and its ledger.
        evaluations: budget; the last batch is cut to what is left.
        batch: B.
        gradient: "path" or "total".
    """

    def __init__(self, target: Target, evaluations: int, batch: int, gradient: str) -> None:
        self.target, self.evaluations, self.batch, self.gradient = target, evaluations, batch, gradient
        self.stop_reason = ""

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        if self.target.ledger.evaluations >= self.evaluations:
            self.stop_reason = f"the budget of {self.evaluations} evaluations is spent"
            return True
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        n = min(self.batch, self.evaluations - self.target.ledger.evaluations)
        z = flow.draw_latent(n, generator)
        x, log_determinant = flow.inverse(z, self.target.y)
        drawn = self.target.evaluate(x)
        _require_valid(drawn.valid)
        log_target = drawn.log_density + ((x - drawn.x) * drawn.score).flatten(1).sum(1)
        if self.gradient == "path":
            frozen = {name: parameter.detach() for name, parameter in flow.named_parameters()}
            again, log_determinant_of_x = functional_call(flow, frozen, (x, self.target.y))
            log_q = standard_normal_log_density(again) + log_determinant_of_x
        else:
            log_q = standard_normal_log_density(z) - log_determinant
        difference = (log_q - log_target)[drawn.valid]
        return difference.mean(), {"elbo_batch_nats": float(-difference.detach().mean())}

    def fraction(self) -> float:
        return min(1.0, self.target.ledger.evaluations / self.evaluations)

    def state_dict(self) -> dict[str, Any]:
        return {"ledger": self.target.ledger.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target.ledger.load_state_dict(state["ledger"])


def _require_valid(valid: Tensor) -> None:
    share = 1 - float(valid.float().mean())
    if share > 0.5:
        raise PflowError(
            f"the target is NaN or infinite at {share:.0%} of the draws, and at most half may be: check the operator on "
            "draws of the prior (python -m pflow check_operator), or start from a flow closer to the physics' domain"
        )
