"""Stage 2 for an expensive F: each point is evaluated once, stored, and used in every later round.

    q_theta(x given y_obs)  flow, x = T_theta^{-1}(z; y_obs), z ~ N(0, I)
    g(x)                    grad_x log p~(x)
    theta0                  weights at the start of a round
    S S^T                   covariance of q_theta0

A round draws M points of q_theta0, evaluates them once, adds them to all points evaluated before,
and fits to *all* of them a model g^ of the score that needs no operator: the minimiser of the
Fisher divergence sum_i |S^T (g(x_i) - g^(x_i))|^2 in the metric of the current flow
(`score_model`). Then, with fresh draws that need no evaluation, the flow minimises

    KL(q_theta || p^_b),     grad log p^_b = (1 - b) grad log q_theta0 + b g^,

by the path gradient, E_z[ (d x / d theta)^T (grad log q_theta - grad log p^_b)(x) ], whose noise
vanishes with the divergence. Matching the flow's own score to the g(x_i), the direct way, is
limited by the few places x_i: with exact scores at unlimited draws in 64 dimensions it stalls a
hundred times further from the posterior (docs/methods.md).

A round opens and closes by transitions of an explicit state (`transitions`, `state`). Its choices
follow errors measured on points that were not fitted; the constants of this module and of those
beside it were chosen once, on the benchmark problems:

    damping      b = min(1 - e / e0, reach): e is the leave-one-out error of g^, e0 that of the
                 flow, both of S^T (.) per dimension. p^_b is the geometric path from q_theta0 to
                 the model: trust region and tempering in one. No draw shall move far on it
                 (`trust_region`).
    end of round the flow follows the model to a tenth of e: more would fit errors.
    step size    cut to a third, from the best weights of the round, when the distance to the model
                 grows instead.
    monotone     a round that ends further from the model than it began is undone; so is one that
                 raises the divergence from a model of the posterior's values (`posterior_model`),
                 which costs no evaluation. A new draw comes with log p~ - log q, hence an ELBO that
                 no training has seen: clearly lower than the best (`best_state`), and the best
                 weights return, the reach is halved, the points are kept.
    last round   follows its model ten times as long: no evaluation is left to learn from.
    lost modes   in low dimension that model has draws of its own. Where the flow has no density at
                 them, a quarter of the next round's points goes there. Unless they refute it, and
                 while KL(p^ || q) is not small, the loss gets the term KL(p^ || q) = -E_p^[log q] +
                 const, because neither scores nor the flow's own draws see the weight of a mode.

Evaluations of another run on the same target can be reused: the first round fits its model to them
and draws nothing. With random subsets of sources (`pflow.inference.target`)
values and scores are unbiased but noisy. The model of the score knows which sources each point has
seen and learns from all of them what a subset leaves out (`score_model`). The standard error of the
ELBO contains the noise; the model of the values judges nothing while its own leave-one-out error,
noise included, is above a nat.

References:
    | Sticking the landing (Roeder et al., 2017), https://arxiv.org/abs/1703.09194
    | Batch and match (Cai et al., 2024), https://arxiv.org/abs/2402.14758
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.best_state import weights_of
from pflow.objectives.replay.inner_loop import InnerLoop
from pflow.objectives.replay.lost_modes import LostModes
from pflow.objectives.replay.state import ReplaySetup, ReplayState, Round
from pflow.objectives.replay.transitions import (
    close_round,
    evaluate_points,
    open_round,
    restore_round,
)
from pflow.objectives.stopping import Stopping
from pflow.objectives.target_objective import TargetObjective

__all__ = ["ScoreReplay"]

# Times as many steps in the last round: no evaluation is left to wait for, and following the model
# costs none
POLISH = 10
REGAIN = 3  # times as many steps in a round that regains a mode


class ScoreReplay(TargetObjective):
    r"""Reverse KL to a model of the posterior's score that is fitted to every evaluation made so
    far:

    .. math:: L(\theta) = \frac{1}{B} \sum_i x_\theta(z_i)^T \, \mathrm{stop}[\nabla \log q_\theta -
        (1 - b) \nabla \log q_{\theta_0} - b \, \hat g](x_i)

    The prior's score needs no operator: where it helps, only the likelihood's is learnt.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets.
        draw: M, points a round; None for `points_in_a_round`: small rounds at first, so that the
            flow moves after few evaluations.
        inner: at most this many steps a round.
        batch: B.
        reused_evaluations: evaluations of the same target by another run.
    """

    def __init__(
        self,
        target: Target,
        stopping: Stopping,
        draw: int | None = None,
        inner: int = 200,
        batch: int = 64,
        reused_evaluations: Evaluation | None = None,
    ) -> None:
        super().__init__(target, stopping)
        self.setup = ReplaySetup(target, stopping, draw, inner, batch, reused_evaluations)
        self.state = ReplayState()
        self.round: Round | None = None
        self.inner_loop: InnerLoop | None = None
        self._saved_round: dict[str, Any] | None = None  # waits for a flow

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        """Start a round when the last one is finished; True when the budget is spent or a target is
        reached.
        """
        self._restore_round(flow)
        if self.round is not None and self.inner_loop is not None:
            if not self._is_finished(self.round, self.inner_loop, flow):
                return False
            self.state = close_round(self.setup, self.state, self.round, self.inner_loop, flow)
            self.round = self.inner_loop = None
        self.stop_reason = self.stopping.reason(self.target.ledger.points)
        if self.stop_reason:
            return True
        self.state = evaluate_points(self.setup, self.state, flow, generator)
        self.round = open_round(self.setup, self.state, flow, generator)
        self.inner_loop = InnerLoop(self.round.opening, weights_of(flow), self.state.step_size)
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """One step's loss on fresh draws of the flow, or of the model where a mode was lost. Calls
        no operator.
        """
        self._restore_round(flow)
        round, summary, batch = self.round, self.target.summary, self.setup.batch
        assert round is not None and self.inner_loop is not None, "`begin` opens a round"
        x = flow.sample(summary, batch, generator).flatten(1)
        residual = round.residual(flow, summary, x.detach())
        distance = float(round.model.metric.pull(residual).square().mean())
        self.inner_loop.note(distance)
        loss = (residual * x).sum(1).mean()
        draws = round.modes.draws
        if draws is not None:
            chosen = torch.randint(len(draws), (2 * batch,), generator=generator).to(x.device)
            loss = loss - flow.log_prob(draws[chosen], summary).mean()
        return loss, {
            "score_error": round.model.flow_error,
            "model_error": round.model.error,
            "damping": round.damping,
            "score_mismatch": distance,
            "objective_nats": -self.state.best.newest_elbo,
        }

    def _is_finished(self, round: Round, inner_loop: InnerLoop, flow: Flow) -> bool:
        if inner_loop.is_due and round.modes.draws is None:
            inner_loop.check(flow, round.model.error)
        return inner_loop.finished or inner_loop.step >= self.steps_in_round

    @property
    def modes(self) -> LostModes:
        """What the newest model of the posterior says of lost modes."""
        return self.state.modes if self.round is None else self.round.modes

    @property
    def warning(self) -> str:
        """Evidence against the result; empty if there is none."""
        return self.modes.warning

    @property
    def reused_points(self) -> int:
        """Points evaluated by another run."""
        return self.setup.reused_points

    @property
    def points_learnt_from(self) -> int:
        """Points of finished rounds, reused ones included."""
        return self.state.points_of_finished_rounds

    @property
    def steps_in_round(self) -> int:
        """Most steps of this round: more to regain a mode, and after the last evaluation."""
        if self.setup.points_left <= 0:
            return POLISH * self.setup.steps
        return REGAIN * self.setup.steps if self.modes.gaining else self.setup.steps

    @property
    def learning_rate_factor(self) -> float:
        """Of the optimiser's step size, for the next step."""
        loop = self.inner_loop
        return 1.0 if loop is None else loop.learning_rate_factor(self.steps_in_round)

    def fraction(self) -> float:
        """The finished fraction, 0 to 1."""
        steps = 0 if self.inner_loop is None else self.inner_loop.step
        unlearnt = self.state.asked * (1 - min(1.0, steps / self.steps_in_round))
        return max(0.0, self.target.ledger.points - unlearnt) / self.stopping.points

    # --- resume ---

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": self.state.state_dict(),
            "round": None if self.round is None else self.round.state_dict(),
            "inner_loop": None if self.inner_loop is None else self.inner_loop.state_dict(),
            "stopping": self.stopping.state_dict(),
            "ledger": self.target.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = ReplayState.from_state_dict(state["state"])
        self.round, self._saved_round = None, state["round"]
        inner_loop = state["inner_loop"]
        self.inner_loop = None if inner_loop is None else InnerLoop.from_state_dict(inner_loop)
        self.stopping.load_state_dict(state["stopping"])
        self.target.ledger.load_state_dict(state["ledger"])

    def _restore_round(self, flow: Flow) -> None:
        """The open round of a checkpoint, whose frozen flow needs the architecture of `flow`."""
        if self._saved_round is not None:
            self.round = restore_round(self.setup, self.state, self._saved_round, flow)
            self._saved_round = None
