"""Stage 2, for one observation: minimise KL(q_theta(. given y_obs) || posterior) with fresh draws
in every step.

    KL = E_z [ log q_theta(x) - log p~(x) ] + constant,   x = T_theta^{-1}(z; y_obs),   z ~ N(0, I)

The total gradient is the paper's. It contains E[grad_theta log q_theta(x)] at fixed x, whose mean
is zero and whose noise never vanishes; the path gradient drops it, so that its variance goes to
zero with the divergence ("sticking the landing"; Roeder, Wu, Duvenaud 2017, arXiv 1703.09194).

The operator is never differentiated through: with p~ and g known at the drawn x_i,
log p~(x) is replaced by log p~(x_i) + g(x_i) . (x - x_i), which has the same value and the same
first derivative.

The draws of every step are fresh draws of the current flow, so their ELBO shows when an earlier
state was better (`best_state`): at the end, that state is restored. The paper's recipe always keeps
the last state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pflow.flows.base import Flow, standard_normal_log_density
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.best_state import BestState
from pflow.objectives.stopping import Stopping
from pflow.objectives.target_objective import TargetObjective
from pflow.objectives.valid_draws import require_valid

__all__ = ["ReverseKL", "log_prob_through_x", "path_loss"]


class ReverseKL(TargetObjective):
    """1/B sum_i [ log q_theta(x_i) - log p~_b(x_i) ] over B draws x_i of q_theta.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets; the last batch is cut to what is left of the budget.
        batch: B.
        gradient: "path" or "total".
        anneal: part of the budget over which b grows from 0.01 to 1, log p~_b = log prior + b log
            likelihood; 0 for b = 1.
        keep: "best" puts the best state seen back at the end, "last" does not.
    """

    def __init__(
        self,
        target: Target,
        stopping: Stopping,
        batch: int,
        gradient: str,
        anneal: float = 0.0,
        keep: str = "best",
    ) -> None:
        super().__init__(target, stopping)
        self.batch, self.gradient, self.anneal, self.keep = batch, gradient, anneal, keep
        self.best = BestState(stopping.window)
        self.failure = ""  # what ended the run before its budget

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        self.stop_reason = self.failure or self.stopping.reason(self.target.ledger.points)
        if (
            self.stop_reason
            and self.keep == "best"
            and self.best.settle(flow, worse=bool(self.failure))
        ):
            self.stop_reason += "; the run had left a better state behind, which was put back"
        return bool(self.stop_reason)

    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        spent = self.target.ledger.points
        z = flow.draw_latent(min(self.batch, self.stopping.points - spent), generator)
        wants_score_error = self.stopping.score_error is not None
        x, log_determinant = flow.inverse(z.requires_grad_(wants_score_error), self.target.summary)
        drawn = self.target.evaluate(x, spent // self.batch)
        if (
            self.keep == "best"
            and self.best.weights is not None
            and float(drawn.valid.float().mean()) < 0.5
        ):
            self.failure = (
                "the target was NaN or infinite at most draws after"
                f" {self.target.ledger.evaluations} evaluations"
            )
            return None, {}
        require_valid(drawn, self.target.problem)
        log_target = drawn.log_density + (
            (x - drawn.x) * drawn.score.nan_to_num(0.0, 0.0, 0.0)
        ).flatten(1).sum(1)
        log_q = standard_normal_log_density(z) - log_determinant
        score_errors = None
        if (
            wants_score_error
        ):  # J^T (grad log q - g) is the gradient by z, with the weights held fixed
            (residual,) = torch.autograd.grad((log_q - log_target).sum(), z, retain_graph=True)
            score_errors = residual.flatten(1).square().mean(1)
        self.stopping.record(drawn, log_q, score_errors)
        difference = self._log_q(flow, x, log_q) - self._tempered(log_target, x, drawn)
        log_weight = (drawn.log_density - log_q.detach())[drawn.valid]
        self.best.see(flow, log_weight)
        return difference[drawn.valid].mean(), {"objective_nats": -float(log_weight.mean())}

    def _log_q(self, flow: Flow, x: Tensor, log_q: Tensor) -> Tensor:
        """log q(x) for the chosen gradient: differentiated through all, or through x alone."""
        if self.gradient == "total":
            return log_q
        return log_prob_through_x(flow, x, self.target.summary)

    def _tempered(self, log_target: Tensor, x: Tensor, drawn: Evaluation) -> Tensor:
        weight = min(1.0, 0.01 + 0.99 * self.fraction() / self.anneal) if self.anneal else 1.0
        if weight == 1.0:
            return log_target
        return weight * log_target + (1 - weight) * self.target.problem.log_prior(x)

    def fraction(self) -> float:
        return min(1.0, self.target.ledger.points / self.stopping.points)

    def state_dict(self) -> dict[str, Any]:
        return {
            "failure": self.failure,
            "ledger": self.target.ledger.state_dict(),
            "stopping": self.stopping.state_dict(),
            "best": self.best.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.failure = state["failure"]
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])
        self.best.load_state_dict(state["best"])


def log_prob_through_x(flow: Flow, x: Tensor, summary: Tensor) -> Tensor:
    """log q(x), (batch,), with a gradient through x alone: the weights are constants."""
    frozen = {name: parameter.detach() for name, parameter in flow.named_parameters()}
    z, log_determinant = functional_call(flow, frozen, (x, summary))
    return standard_normal_log_density(z) + log_determinant


def path_loss(
    flow: Flow,
    summary: Tensor,
    value_and_score: Callable[[Tensor], tuple[Tensor, Tensor]],
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """KL(q || p) by its path gradient, for a density p that costs no evaluation, and the ELBO.

    Arguments:
        flow: q.
        summary: what the flow sees of the observation.
        value_and_score: log p(x), (batch,), and its gradient, (batch, *model), at models x.
        draws: of q.
        generator: of the draws.
    """
    z = flow.draw_latent(draws, generator)
    x, log_determinant = flow.inverse(z, summary)
    value, score = value_and_score(x.detach())
    finite = value.isfinite() & score.flatten(1).isfinite().all(1)
    log_q = log_prob_through_x(flow, x, summary)
    difference = (log_q - (x * score).flatten(1).sum(1))[finite].mean()
    drawn = (standard_normal_log_density(z) - log_determinant).detach()
    return difference, float((value - drawn)[finite].mean())
