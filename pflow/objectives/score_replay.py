"""Stage 2 for an expensive F: each point is evaluated once, kept, and learnt from many times.

    q_theta(x given y_obs)  flow, x = T_theta^{-1}(z; y_obs), z ~ N(0, I)       g(x) = grad_x log p~(x)
    theta0                  weights at the start of a round                     S S^T = covariance of q_theta0

A round draws M points of q_theta0, evaluates them once, adds them to all points evaluated before, and fits to *all* of them a
model g^ of the score that needs no operator: the minimiser of the Fisher divergence sum_i |S^T (g(x_i) - g^(x_i))|^2 in the
metric of the current flow (`score_model`). Then, with as many fresh draws as it likes, the flow descends

    KL(q_theta || p^_b),     grad log p^_b = (1 - b) grad log q_theta0 + b g^,

by the path gradient, E_z[ (d x / d theta)^T (grad log q_theta - grad log p^_b)(x) ], whose noise vanishes with the divergence.
Matching the flow's own score to the g(x_i), the direct way, is limited by the few places x_i: with exact scores at
unlimited draws in 64 dimensions it stalls a hundred times further from the posterior (docs/methods.md).

Nothing is left to tune, because every choice is made by an error that was measured on points not fitted:

    damping      b = min(1 - e / e0, c / sqrt(e0)): e is the leave-one-out error of g^, e0 that of the flow, both of S^T (.)
                 per dimension. p^_b is the geometric path from q_theta0 to the model: trust region and tempering in one.
    end of round the flow follows the model to a tenth of e: more would fit errors.
    step size    cut to a third, from the best weights of the round, when the distance to the model grows instead.
    monotone     a model of the posterior's values (`posterior_model`) gives a divergence without an evaluation: a round that raises
                 it is undone. A new draw comes with log p~ - log q, hence an ELBO that no training has seen: lower than the best by
                 three standard errors, and the best weights return, c is halved, the points are kept.
    lost modes   in low dimension that model has draws of its own. Where the flow has no density at them, a quarter of the next
                 round's points goes there. Unless they refute it, and while KL(p^ || q) is not small, the loss gets the term
                 KL(p^ || q) = -E_p^[log q] + const, because neither scores nor the flow's own draws see the weight of a mode.

References:
    | Sticking the landing (Roeder et al., 2017), https://arxiv.org/abs/1703.09194
    | Batch and match (Cai et al., 2024), https://arxiv.org/abs/2402.14758
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.likelihood_model import LikelihoodModel
from pflow.objectives.posterior_model import PosteriorModel
from pflow.objectives.reverse_kl import require_valid
from pflow.objectives.score_model import DENSE, Metric, ScoreModel
from pflow.objectives.stopping import Stopping
from pflow.target import Evaluation, Target

__all__ = ["ScoreReplay", "points_in_a_round"]

ROUNDS, SMALLEST_DRAW = 16, 16
WARMUP, CHECK = 10, 10
REACH = 2.0  # c: standard deviations that one round may move
FOLLOW = 0.1  # distance to the model at which a round ends, in units of the model's own error
GROWTH = 2.0  # of the distance to the model, from noise alone
CUT, CUTS = 3.0, 6
SLACK = 0.1  # nats of the ELBO: below, heavy tails make a standard error of a few draws too small to judge by
CLOSE = 1e-4  # mean squared whitened score distance to the model below which a round ends as well: 5e-5 nats per unknown
METRIC_DRAWS = 2048  # free draws of the flow for its covariance
SUSPICIOUS = 0.005  # share of the model's posterior that the flow lacks, above which it is looked at
CONFIRMED = 3.0  # nats by which an evaluated suspect may differ from the model
TRUSTED = 1.0  # nats of leave-one-out error up to which the model of the values judges a round
SMALL = 0.01  # nats of model divergence: below, forward KL is left out, and a rise does not undo a round

SAVED = (
    "points", "scores", "values", "round", "rejected", "undone", "step", "finished", "reach", "scale", "cuts", "damping", "mismatches",
    "closest", "elbo", "best_weights", "round_weights", "start_weights", "suspects", "model_draws", "missing",
    "learnt", "newest_elbo",
)  # fmt: skip


def points_in_a_round(evaluations: int) -> int:
    """M for a budget: a sixteenth of it, and at least 16 (or all of it)."""
    return min(evaluations, max(SMALLEST_DRAW, evaluations // ROUNDS))


class ScoreReplay:
    r"""Reverse KL to a model of the posterior's score that is fitted to every evaluation made so far:

    .. math:: L(\theta) = \frac{1}{B} \sum_i x_\theta(z_i)^T \, \mathrm{stop}[\nabla \log q_\theta - (1 - b) \nabla \log q_{\theta_0} - b \, \hat g](x_i)

    The prior's score needs no operator: where it helps, only the likelihood's is learnt.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets.
        draw: M, points a round; None for `points_in_a_round`.
        inner: at most this many steps a round.
        batch: B.
    """

    def __init__(self, target: Target, stopping: Stopping, draw: int | None = None, inner: int = 200, batch: int = 64) -> None:
        self.target, self.stopping, self.inner, self.batch = target, stopping, inner, batch
        self.draw = draw or points_in_a_round(stopping.evaluations)
        self.stop_reason = ""
        self.points: Tensor | None = None  # every valid evaluation, (n, D), and its score
        self.scores: Tensor | None = None
        self.values: Tensor | None = None  # log likelihood at the points, (n,)
        self.round = self.rejected = self.undone = 0
        self.step = 0  # inner steps of this round
        self.finished = True  # of this round
        self.learnt = 0  # evaluations of finished rounds
        self.reach, self.scale, self.cuts, self.damping = REACH, 1.0, 0, 1.0
        self.mismatches: list[float] = []
        self.closest = math.inf
        self.elbo = [-math.inf, 0.0]  # the best one, and its standard error
        self.newest_elbo = math.nan
        self.best_weights: dict[str, Tensor] | None = None  # of all rounds
        self.round_weights: dict[str, Tensor] | None = None  # closest to the model in this round
        self.start_weights: dict[str, Tensor] | None = None
        self.suspects: Tensor | None = None  # points to evaluate next, and log p~ there by the model, (n, D + 1)
        self.model_draws: Tensor | None = None  # of p^, for the forward KL of this round
        self.missing: float | None = None  # share of the model's posterior that the flow lacks; None where unknown
        self.start: Flow | None = None
        self.model: ScoreModel | None = None
        self.posterior: PosteriorModel | None = None
        self._saved_model: dict[str, Any] | None = None

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        """Start a round when the last one is finished; True when budget or target say stop."""
        self._wake(flow)
        if self.step and self.step % CHECK == 0 and not self.finished and self.model_draws is None:
            self._check(flow)
        if not self.finished and self.step < self.steps_in_round:
            return False
        self._close_round(flow)
        self.stop_reason = self.stopping.reason(self.target.ledger.evaluations)
        if self.stop_reason:
            return True
        self._open_round(flow, generator)
        return False

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """One step's loss on fresh draws of the flow, or of the model where a mode was lost. Calls no operator."""
        self._wake(flow)
        self.step += 1
        x = flow.sample(self.target.summary, self.batch, generator).flatten(1)
        points = x.detach()
        residual = self._flow_score(flow, points) - self.damping * self.model.score(points)
        if self.damping < 1:
            residual = residual - (1 - self.damping) * self._flow_score(self.start, points)
        self.mismatches.append(float(self.model.metric.pull(residual).square().mean()))
        loss = (residual * x).sum(1).mean()
        if self.model_draws is not None:
            chosen = torch.randint(len(self.model_draws), (2 * self.batch,), generator=generator).to(x.device)
            loss = loss - flow.log_prob(self.model_draws[chosen], self.target.summary).mean()
        numbers = {"score_error": self.model.flow_error, "model_error": self.model.error, "damping": self.damping}
        return loss, {**numbers, "score_mismatch": self.mismatches[-1], "objective_nats": -self.newest_elbo}

    @property
    def warning(self) -> str:
        """What the evidence says against the result; empty if nothing."""
        if self.missing is not None and self.missing > 2 * SUSPICIOUS:
            return f"about {self.missing:.0%} of the posterior seems to lie where the flow has no draws: a mode may be lost; raise `evaluations`"
        return ""

    @property
    def steps_in_round(self) -> int:
        """Most steps of this round: a mode that is gained takes longer."""
        gaining = self.model_draws is not None and (self.missing or 0.0) > SUSPICIOUS
        return 3 * self.inner if gaining else self.inner

    @property
    def learning_rate_factor(self) -> float:
        """Warm-up and cosine of this round, times the cuts."""
        fraction = min(1.0, self.step / self.steps_in_round)
        return self.scale * min(1.0, (self.step + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction)))

    def fraction(self) -> float:
        """How much of the work is done, 0 to 1."""
        inside = self.draw * (1 - min(1.0, self.step / self.steps_in_round))
        return max(0.0, self.target.ledger.evaluations - inside) / self.stopping.evaluations

    # --- a round ---

    def _open_round(self, flow: Flow, generator: torch.Generator) -> None:
        left = self.stopping.evaluations - self.target.ledger.evaluations
        suspects = self.suspects if self.suspects is not None and left > len(self.suspects) + 1 else None
        n = min(self.draw, left) - (0 if suspects is None else len(suspects))
        with torch.no_grad():
            x, log_q = flow.sample_with_log_prob(self.target.summary, n, generator)
        drawn = self.target.evaluate(x, self.round)
        require_valid(drawn.valid)
        score_errors = None
        if self.model is not None and self.stopping.score_error is not None:
            own = drawn.x[drawn.valid].flatten(1)
            score_errors = self.model.metric.pull(self._flow_score(flow, own) - drawn.score[drawn.valid].flatten(1)).square().mean(1)
        self.stopping.record(drawn, log_q, score_errors)
        self._keep(drawn)
        confirmed = suspects is not None and self._confirm(suspects, flow.model_shape)
        self._judge(flow, (drawn.log_density - log_q)[drawn.valid])

        self.start_weights, self.start = _copy(flow), None
        self._wake(flow)
        with torch.no_grad():
            draws, log_q = flow.sample_with_log_prob(self.target.summary, max(METRIC_DRAWS, 4 * self.points.shape[1]), generator)
        draws = draws.flatten(1)
        self.model = ScoreModel(self.points, self.scores, Metric(draws), self._bases())
        self._model_posterior()
        self._look_elsewhere(log_q, suspects is not None and not confirmed)
        error, flow_error = self.model.error, self.model.flow_error
        self.damping = min(1.0, max(0.3, 1 - error / flow_error), self.reach / math.sqrt(flow_error))
        # on fresh draws, as in `loss`: the tails of a flow can lie where no point has been evaluated
        fresh = draws[: CHECK * self.batch]
        gap = self._flow_score(flow, fresh) - self.model.score(fresh)
        self.closest = self.damping**2 * float(self.model.metric.pull(gap).square().mean())
        self.round_weights = self.start_weights
        self.mismatches, self.step, self.cuts, self.finished = [], 0, 0, False
        self.scale = min(1.0, CUT**2 * self.scale)
        self.round += 1

    def _close_round(self, flow: Flow) -> None:
        """Leave the round's best weights in the flow, or its first ones where the model of the posterior says that it did harm."""
        if self.round_weights is None:
            return
        self.learnt = self.target.ledger.evaluations
        if self.model_draws is None:
            flow.load_state_dict(self.round_weights)
        if self.posterior is None or self.posterior.likelihood.error > TRUSTED:
            return
        if not self._divergence(flow) < self._divergence(self.start) + SMALL:
            flow.load_state_dict(self.start_weights)
            self.undone += 1
            self.scale /= CUT
        elif self.model_draws is not None:  # a mode was gained: the ELBO of the past is no measure
            self.best_weights, self.elbo = None, [-math.inf, 0.0]

    def _keep(self, drawn: Evaluation) -> None:
        valid = drawn.valid
        new = (drawn.x[valid].flatten(1), drawn.score[valid].flatten(1).to(drawn.x), drawn.log_likelihood[valid])
        old = (self.points, self.scores, self.values)
        self.points, self.scores, self.values = new if self.points is None else (torch.cat(pair) for pair in zip(old, new, strict=True))

    def _confirm(self, suspects: Tensor, shape: tuple[int, ...]) -> bool:
        """Evaluate the suspects; True where most are as likely as the model said."""
        found = self.target.evaluate(suspects[:, :-1].view(len(suspects), *shape), self.round)
        self._keep(found)
        return bool(((found.log_density - suspects[:, -1]).abs() < CONFIRMED).double().mean() > 0.5)

    def _judge(self, flow: Flow, log_weight: Tensor) -> None:
        """Keep the weights when their ELBO, on draws that no training has seen, is not clearly below the best."""
        if len(log_weight) < 2:
            return
        mean, error = float(log_weight.mean()), float(log_weight.std() / math.sqrt(len(log_weight)))
        self.newest_elbo = mean
        best, best_error = self.elbo
        if self.best_weights is not None and not mean > best - max(SLACK, 3 * math.hypot(error, best_error)):
            flow.load_state_dict(self.best_weights)
            self.reach *= 0.5
            self.rejected += 1
            return
        self.best_weights, self.elbo = _copy(flow), [mean, error]
        self.reach = min(REACH, 1.5 * self.reach)

    def _check(self, flow: Flow) -> None:
        """End the round, remember the closest weights, or go back to them with a third of the step size."""
        mismatch = sum(self.mismatches[-CHECK:]) / CHECK
        if mismatch < max(FOLLOW * self.model.error, CLOSE):
            self.round_weights, self.finished = _copy(flow), True
        elif not mismatch < GROWTH * self.closest:
            flow.load_state_dict(self.round_weights)
            self.scale, self.cuts = self.scale / CUT, self.cuts + 1
            self.finished = self.cuts >= CUTS
        else:
            self.round_weights = _copy(flow)
            self.closest = min(self.closest, mismatch)

    # --- the posterior by the model ---

    def _model_posterior(self) -> None:
        self.posterior = None
        if self.points.shape[1] <= DENSE:
            likelihood = LikelihoodModel(self.points, self.values, self.model.metric, *self.model.likelihood_affine())
            generator = torch.Generator().manual_seed(len(self.points))  # the same draws after a resume
            self.posterior = PosteriorModel(likelihood, self.target.problem, self.target.summary, generator)

    def _divergence(self, flow: Flow) -> float:
        """Of flow and model: reverse, and forward where there are draws for it."""
        return self.posterior.reverse_divergence(flow, self.round) + (self.posterior.forward_divergence(flow) or 0.0)

    def _look_elsewhere(self, log_q_of_own_draws: Tensor, refuted: bool) -> None:
        """Suspects for the next round, and draws for the forward KL of this one."""
        self.suspects = self.missing = self.model_draws = None
        beyond = None if self.posterior is None else self.posterior.beyond(self.start, log_q_of_own_draws)
        if beyond is None:
            return
        self.missing = len(beyond) / len(self.posterior.draws)
        if self.missing > SUSPICIOUS:
            chosen = beyond[: max(2, self.draw // 4)]
            self.suspects = torch.cat([chosen.flatten(1), self.posterior.log_density(chosen).to(chosen)[:, None]], 1)
        trusted = self.posterior.likelihood.error < TRUSTED and not refuted
        if trusted and self.posterior.forward_divergence(self.start) > SMALL:
            self.model_draws = self.posterior.draws

    # --- scores ---

    def _flow_score(self, flow: Flow, points: Tensor) -> Tensor:
        """grad_x log q at flattened points."""
        return _gradient(lambda x: flow.log_prob(x, self.target.summary), points, flow.model_shape)

    def _bases(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Scores that need no operator: the flow's at the start of the round, and the prior's."""
        start, shape = self.start, self.start.model_shape
        return {
            "flow": lambda x: _gradient(lambda points: start.log_prob(points, self.target.summary), x, shape),
            "prior": lambda x: _gradient(self.target.problem.log_prior, x, shape),
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
        model = None if self.model is None else self.model.state_dict()
        return {"own": own, "model": model, "ledger": self.target.ledger.state_dict(), "stopping": self.stopping.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update({name: copy.copy(value) for name, value in state["own"].items()})
        self.start, self.model, self.posterior, self._saved_model = None, None, None, state["model"]
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])


def _gradient(log_density: Callable[[Tensor], Tensor], points: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of a log density at flattened points, (n, D)."""
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        return torch.autograd.grad(log_density(x.view(len(x), *shape)).sum(), x)[0]


def _copy(flow: Flow) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in flow.state_dict().items()}
