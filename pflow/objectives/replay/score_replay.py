"""Stage 2 for an expensive F: each point is evaluated once, stored, and used in every later round.

    q_theta(x given y_obs)  flow, x = T_theta^{-1}(z; y_obs), z ~ N(0, I)       g(x) = grad_x log
                            p~(x)
    theta0                  weights at the start of a round                     S S^T = covariance
                            of q_theta0

A round draws M points of q_theta0, evaluates them once, adds them to all points evaluated before,
and fits to *all* of them a model g^ of the score that needs no operator: the minimiser of the
Fisher divergence sum_i |S^T (g(x_i) - g^(x_i))|^2 in the metric of the current flow
(`score_model`). Then, with fresh draws that need no evaluation, the flow minimises

    KL(q_theta || p^_b),     grad log p^_b = (1 - b) grad log q_theta0 + b g^,

by the path gradient, E_z[ (d x / d theta)^T (grad log q_theta - grad log p^_b)(x) ], whose noise
vanishes with the divergence. Matching the flow's own score to the g(x_i), the direct way, is
limited by the few places x_i: with exact scores at unlimited draws in 64 dimensions it stalls a
hundred times further from the posterior (docs/methods.md).

The choices of each round follow errors measured on points that were not fitted; the constants of
this module and of those beside it were chosen once, on the benchmark problems:

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

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.best_state import BestState, weights_of
from pflow.objectives.replay.evaluated_points import Evaluated
from pflow.objectives.replay.free_draws import draws_for_moments, flow_score, gradient
from pflow.objectives.replay.inner_loop import CHECK, InnerLoop
from pflow.objectives.replay.likelihood_model import LikelihoodModel
from pflow.objectives.replay.lost_modes import SMALL, LostModes
from pflow.objectives.replay.posterior_model import TRUSTED, PosteriorModel
from pflow.objectives.replay.rounds import SMALLEST_DRAW, points_in_a_round
from pflow.objectives.replay.score_model import Metric, ScoreModel
from pflow.objectives.replay.trust_region import reachable
from pflow.objectives.reverse_kl import require_valid
from pflow.objectives.stopping import Stopping
from pflow.objectives.target_objective import TargetObjective

__all__ = ["ScoreReplay"]

# Times as many steps in the last round: no evaluation is left to wait for, and following the model
# costs none
POLISH = 10
REACH = 2.0  # standard deviations that one round may move
# Unknowns up to which the posterior's values are modelled: beyond, no draw of the prior comes near
# it
MODELLED = 1024

SAVED = (
    "round",
    "asked",
    "rejected",
    "undone",
    "reach",
    "damping",
    "start_weights",
    "points_of_finished_rounds",
)
PARTS = ("stopping", "evaluated", "best", "inner_loop", "modes")


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
        self.draw, self.inner, self.batch = draw, inner, batch
        self.reused_evaluations = reused_evaluations
        self.asked = 0  # points of this round
        self.evaluated = Evaluated()
        self.round = self.rejected = self.undone = 0
        self.points_of_finished_rounds = 0  # reused ones included
        self.reach, self.damping = REACH, 1.0
        self.best = BestState()
        self.inner_loop = InnerLoop()
        self.modes = LostModes()
        self.start_weights: dict[str, Tensor] | None = None
        self.start: Flow | None = None
        self.model: ScoreModel | None = None
        self.posterior: PosteriorModel | None = None
        self._saved_model: dict[str, Any] | None = None

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        """Start a round when the last one is finished; True when the budget is spent or a target is
        reached.
        """
        self._wake(flow)
        inner_loop = self.inner_loop
        if (
            inner_loop.step
            and inner_loop.step % CHECK == 0
            and not inner_loop.finished
            and self.modes.draws is None
        ):
            inner_loop.check(flow, self.model.error)
        if not inner_loop.finished and inner_loop.step < self.steps_in_round:
            return False
        self._close_round(flow)
        self.stop_reason = self.stopping.reason(self.target.ledger.points)
        if self.stop_reason:
            return True
        self._open_round(flow, generator)
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """One step's loss on fresh draws of the flow, or of the model where a mode was lost. Calls
        no operator.
        """
        self._wake(flow)
        self.inner_loop.step += 1
        x = flow.sample(self.target.summary, self.batch, generator).flatten(1)
        residual = self._residual(flow, x.detach())
        distance = float(self.model.metric.pull(residual).square().mean())
        self.inner_loop.note(distance)
        loss = (residual * x).sum(1).mean()
        if self.modes.draws is not None:
            chosen = torch.randint(
                len(self.modes.draws), (2 * self.batch,), generator=generator
            ).to(x.device)
            loss = loss - flow.log_prob(self.modes.draws[chosen], self.target.summary).mean()
        numbers = {
            "score_error": self.model.flow_error,
            "model_error": self.model.error,
            "damping": self.damping,
        }
        return loss, {
            **numbers,
            "score_mismatch": distance,
            "objective_nats": -self.best.newest_elbo,
        }

    @property
    def warning(self) -> str:
        """Evidence against the result; empty if there is none."""
        return self.modes.warning

    @property
    def reused_points(self) -> int:
        """Points evaluated by another run."""
        return 0 if self.reused_evaluations is None else len(self.reused_evaluations.valid)

    @property
    def points_learnt_from(self) -> int:
        """Points of finished rounds, reused ones included."""
        return self.points_of_finished_rounds

    @property
    def steps_in_round(self) -> int:
        """Most steps of this round: more to regain a mode, and after the last evaluation."""
        if self.target.ledger.points >= self.stopping.points:
            return POLISH * self.inner
        return 3 * self.inner if self.modes.gaining else self.inner

    @property
    def learning_rate_factor(self) -> float:
        """Of the optimiser's step size, for the next step."""
        return self.inner_loop.learning_rate_factor(self.steps_in_round)

    def fraction(self) -> float:
        """The finished fraction, 0 to 1."""
        inside = self.asked * (1 - min(1.0, self.inner_loop.step / self.steps_in_round))
        return max(0.0, self.target.ledger.points - inside) / self.stopping.points

    # --- a round ---

    def _open_round(self, flow: Flow, generator: torch.Generator) -> None:
        confirmed = None
        reused = self.reused_evaluations
        if self.round == 0 and reused is not None and reused.valid.any():
            self._keep(reused)
        else:
            confirmed = self._evaluate(flow, generator)
        self.start_weights, self.start = weights_of(flow), None
        self._wake(flow)
        draws, log_q = draws_for_moments(flow, self.target.summary, generator)
        self.model = ScoreModel(
            self.evaluated.points,
            self.evaluated.scores,
            Metric(draws),
            self._bases(),
            self.evaluated.seen,
        )
        self._model_posterior()
        self.modes.search(
            self._judge(),
            self.start,
            log_q,
            most=max(2, (self.draw or SMALLEST_DRAW) // 4),
            confirmed=confirmed,
        )
        # on fresh draws, as in `loss`: the tails of a flow can lie where no point has been
        # evaluated
        gap = self.model.metric.pull(self.model.score(draws) - self._flow_score(flow, draws))
        trusted = max(0.3, 1 - self.model.error / self.model.flow_error)
        self.damping = min(trusted, reachable(self.model.metric.whiten(draws), gap, self.reach))
        self.inner_loop.start(
            self.damping**2 * float(gap[: CHECK * self.batch].square().mean()), self.start_weights
        )
        self.round += 1

    def _evaluate(self, flow: Flow, generator: torch.Generator) -> bool | None:
        """Draw the points of a round, evaluate and keep them, and test the flow with them; returns
        whether they confirm the suspects among them (None: there are none).
        """
        left = self.stopping.points - self.target.ledger.points
        suspects = (
            self.modes.suspects
            if self.modes.suspects is not None and left > len(self.modes.suspects) + 1
            else None
        )
        self.asked = self._size_of_round(left)
        n = self.asked - (0 if suspects is None else len(suspects))
        with torch.no_grad():
            x, log_q = flow.sample_with_log_prob(self.target.summary, n, generator)
        drawn = self.target.evaluate(x, self.round)
        require_valid(drawn.valid)
        score_errors = None
        if self.model is not None and self.stopping.score_error is not None:
            own = drawn.x[drawn.valid].flatten(1)
            score_errors = (
                self.model.metric.pull(
                    self._flow_score(flow, own) - drawn.score[drawn.valid].flatten(1)
                )
                .square()
                .mean(1)
            )
        self.stopping.record(drawn, log_q, score_errors)
        self._keep(drawn)
        confirmed = None
        if suspects is not None:
            evaluated = self.target.evaluate(
                suspects[:, :-1].view(len(suspects), *flow.model_shape), self.round
            )
            self._keep(evaluated)
            confirmed = self.modes.confirmed(evaluated)
        if self.best.see(flow, (drawn.log_density - log_q)[drawn.valid]):
            self.reach = min(REACH, 1.5 * self.reach)
        else:
            flow.load_state_dict(self.best.weights)
            self.reach *= 0.5
            self.rejected += 1
        return confirmed

    def _close_round(self, flow: Flow) -> None:
        """Leave the round's best weights in the flow, or its first ones if the round made the flow
        worse under the model of the posterior.
        """
        if self.inner_loop.weights is None:
            return
        self.points_of_finished_rounds = self.target.ledger.points + self.reused_points
        if self.modes.draws is None:
            flow.load_state_dict(self.inner_loop.weights)
            fresh = (
                flow.sample(
                    self.target.summary,
                    CHECK * self.batch,
                    torch.Generator().manual_seed(self.round),
                )
                .flatten(1)
                .detach()
            )
            if self.inner_loop.failed(
                float(self.model.metric.pull(self._residual(flow, fresh)).square().mean())
            ):
                self._undo(flow)
                return
        if self.posterior is None or self.posterior.likelihood.error > TRUSTED:
            return
        if not self._divergence(flow) < self._divergence(self.start) + SMALL:
            self._undo(flow)
        elif self.modes.draws is not None:  # a mode was gained: the ELBO of the past is no measure
            self.best.forget()

    def _size_of_round(self, left: int) -> int:
        """Points to ask for: constant where it is set, or where the posterior's model has draws,
        because modes are then tested in every round.
        """
        if self.draw or (self.posterior is not None and self.posterior.draws is not None):
            return min(self.draw or SMALLEST_DRAW, left)
        return points_in_a_round(len(self.evaluated), left)

    def _undo(self, flow: Flow) -> None:
        flow.load_state_dict(self.start_weights)
        self.undone += 1
        self.inner_loop.cut()

    def _keep(self, drawn: Evaluation) -> None:
        self.evaluated.add(drawn, self.target.seen(drawn.x))

    def _model_posterior(self) -> None:
        self.posterior, evaluated = None, self.evaluated
        if evaluated.points.shape[1] <= MODELLED:
            likelihood = LikelihoodModel(
                evaluated.points,
                evaluated.values,
                self.model.metric,
                *self.model.likelihood_affine(),
            )
            generator = torch.Generator().manual_seed(len(evaluated))  # same after a resume
            self.posterior = PosteriorModel(
                likelihood, self.target.problem, self.target.summary, generator
            )

    def _judge(self) -> PosteriorModel | None:
        """The model of the posterior where it may say what the flow lacks: of noisy values only one
        that has averaged the noise away.
        """
        unsure = (
            self.evaluated.seen is not None
            and self.posterior is not None
            and self.posterior.likelihood.error > TRUSTED
        )
        return None if unsure else self.posterior

    def _divergence(self, flow: Flow) -> float:
        """Of flow and model: reverse, and forward where there are draws for it."""
        return self.posterior.reverse_divergence(flow, self.round) + (
            self.posterior.forward_divergence(flow) or 0.0
        )

    # --- scores ---

    def _residual(self, flow: Flow, points: Tensor) -> Tensor:
        """grad log q - grad log p^_b at flattened points."""
        residual = self._flow_score(flow, points) - self.damping * self.model.score(points)
        if self.damping < 1:
            residual = residual - (1 - self.damping) * self._flow_score(self.start, points)
        return residual

    def _flow_score(self, flow: Flow, points: Tensor) -> Tensor:
        return flow_score(flow, self.target.summary, points)

    def _bases(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Scores that need no operator: the flow's at the start of the round, and the prior's."""
        start, shape = self.start, self.start.model_shape
        return {
            "flow": lambda x: flow_score(start, self.target.summary, x),
            "prior": lambda x: gradient(self.target.problem.log_prior, x, shape),
        }

    def _wake(self, flow: Flow) -> None:
        """The frozen flow of the round, and after loading the model, from their tensors."""
        if self.start is None and self.start_weights is not None:
            self.start = copy.deepcopy(flow).requires_grad_(False)
            self.start.load_state_dict(self.start_weights)
        if self._saved_model is not None:
            self.model = ScoreModel.from_state(self._saved_model, self._bases())
            self._saved_model = None
            self._model_posterior()

    # --- resume ---

    def state_dict(self) -> dict[str, Any]:
        own = {name: copy.copy(getattr(self, name)) for name in SAVED}
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        model = None if self.model is None else self.model.state_dict()
        return {
            "own": own,
            "parts": parts,
            "model": model,
            "ledger": self.target.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update({name: copy.copy(value) for name, value in state["own"].items()})
        for name in PARTS:
            getattr(self, name).load_state_dict(state["parts"][name])
        self.start, self.model, self.posterior, self._saved_model = None, None, None, state["model"]
        self.target.ledger.load_state_dict(state["ledger"])
