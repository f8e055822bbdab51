r"""Stage 2 where F is linear: evaluations until F is known, then training without them.

1. Learn (`operator_range`). Draws of the prior are evaluated, in batches that grow, until the data
   of a new batch hold nothing that was not seen before: rank(F) + 1 evaluations and a batch that
   says so.
2. Train. The posterior of what was learnt (`posterior`) needs no evaluation. Under a Gaussian prior
   it is Gaussian and known in closed form. Under another prior the flow learns it by path
   gradients, and a Gaussian of the flow's latent by natural gradients (`latent_steps`): the
   correlations of distant pixels, which convolutions cannot express. The latent is learnt twice:
   before the step size of the flow falls (`schedule`), so that the flow is trained under it, and
   at the end. What minimises KL(q || p^) is too narrow; chains say by how much, and the latent is
   widened until x has their standard deviations (`latent_posterior`).
3. Check. Fresh draws are evaluated: they tell the ELBO, and whether the model of F predicts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.latent import LatentGaussian
from pflow.flows.stationary import StationaryFlow
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.linear.applies import stationary_prior
from pflow.objectives.linear.latent_posterior import LatentPosterior, spread_of
from pflow.objectives.linear.latent_steps import LatentSteps
from pflow.objectives.linear.operator_range import OperatorRange
from pflow.objectives.linear.posterior import LinearPosterior, gaussian_posterior
from pflow.objectives.linear.schedule import MOST_STEPS, Schedule
from pflow.objectives.reverse_kl import path_loss
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.coordinates import WhitenedData
from pflow.objectives.target_objective import TargetObjective

__all__ = ["LinearSurrogate"]

FIRST, GROWTH = 32, 8  # evaluations in the first batch; later an eighth of those known
KNOWN = 0.05  # nats of error of the log-likelihood of a draw, below which F is known
CHECK, LEAST_CHECK = 32, 2  # draws evaluated at the end
BATCH = 8  # of path gradients
WIDEST = 1.3  # factor by which the latent may be widened at the end
MISPREDICTED = 1.0  # nats of error of the log-likelihood beyond which there is a warning
LEARNING, TRAINING = 0.1, 0.65  # parts of the whole, for the progress shown


class LinearSurrogate(TargetObjective):
    """The three steps of the module.

    The flow is a `StationaryFlow` under a stationary Gaussian prior, and otherwise a
    `LatentGaussian` over any flow.

    Arguments:
        target: p~ and its ledger; F is linear and the noise Gaussian.
        stopping: the budget. Its targets stop nothing: evaluations end once F is known.
        steps: of path gradients, at most.
    """

    def __init__(self, target: Target, stopping: Stopping, steps: int = MOST_STEPS) -> None:
        super().__init__(target, stopping)
        self.data = WhitenedData(target.problem, target.y)
        self.known = OperatorRange(self.data.observed)
        self.latent = LatentSteps()
        self.latent_gains: list[float] = []  # of the latents that are done: nats
        self.batches: list[int] = []
        self.posterior: LinearPosterior | None = None
        self.phase = "learn"
        self.schedule = Schedule(math.prod(target.problem.model_shape), steps)
        self.findings: dict[str, float] = {}

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        if self.phase == "learn" and (self.known.error_nats < KNOWN or self._left < 1):
            self._end_learning(flow)
        if self.phase == "train" and self._latent_is_due:
            self.latent, self.phase = LatentSteps(), "latent"
        if self.phase == "latent" and self.latent.finished:
            self.latent_gains.append(self.latent.gain)
            if self.schedule.finished:
                self._widen(flow, generator)
            self.phase = "check" if self.schedule.finished else "train"
        if self.phase == "check":
            self._check(flow, generator)
            self.phase = "done"
        if self.phase == "done":
            self.stop_reason = "; ".join([self._why_learnt, *self._how_converged])
        return self.phase == "done"

    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        if self.phase == "learn":
            self._evaluate(generator)
            return None, {}
        assert self.posterior is not None, "F has been learnt"
        assert isinstance(flow, LatentGaussian), "there is a latent to learn"
        if self.phase == "latent":
            self.latent.advance(flow, self.target.summary, self.posterior, generator)
            return None, {"objective_nats": -self.latent.elbo[-1]}
        return self._path_loss(flow, self.posterior, generator)

    def fraction(self) -> float:
        if self.phase == "learn":
            return LEARNING * self.target.ledger.points / self.stopping.points
        rounds = len(self.latent.elbo) / (len(self.latent.elbo) + 2)
        latents = len(self.latent_gains) + (rounds if self.phase == "latent" else 0.0)
        trained = LEARNING + TRAINING * self.schedule.fraction
        return trained + (1 - LEARNING - TRAINING) * latents / 2

    @property
    def learning_rate_factor(self) -> float:
        """That of the schedule."""
        return self.schedule.factor

    # --- what F tells ---

    @property
    def _left(self) -> int:
        """Points that the budget pays besides those of the check."""
        kept = min(CHECK, self.stopping.points // 8)
        kept = kept if kept >= LEAST_CHECK else 0
        return self.stopping.points - kept - self.target.ledger.points

    def _evaluate(self, generator: torch.Generator) -> None:
        known = self.target.ledger.points
        count = min(self._left, max(FIRST, known // GROWTH))
        x = self.target.problem.sample_prior(count, generator).to(self.target.y)
        self._learn(self.target.evaluate(x, len(self.batches), prior=False))
        self.batches.append(count)

    def _learn(self, evaluation: Evaluation) -> None:
        """Valid evaluations extend what is known of F."""
        valid = evaluation.valid & evaluation.prediction.flatten(1).isfinite().all(1)
        if not valid.any():
            return
        x, gradient = evaluation.x[valid], evaluation.score[valid]
        if self.posterior is None:
            first = float(evaluation.log_likelihood[valid][0])
            self.posterior = LinearPosterior(self.target.problem, self.known, first)
        w = self.data.whiten(evaluation.prediction[valid])
        self.known.learn(x.flatten(1).to(w), w, gradient.flatten(1).to(w))

    def _end_learning(self, flow: Flow) -> None:
        if self.posterior is None:
            raise PflowError(
                "F or the likelihood is NaN or infinite at every draw of the prior that was"
                " evaluated: check the operator and the prior"
            )
        if isinstance(flow, StationaryFlow):
            prior = stationary_prior(self.target.problem)
            assert prior is not None, "the flow stands for a stationary prior"
            flow.set_prior(prior.spectrum)
            flow.principal.set_covariance(*gaussian_posterior(self.known, prior))
            self.phase = "check"
        else:
            self.phase = "train"

    # --- training ---

    @property
    def _latent_is_due(self) -> bool:
        """Before the step size of the flow falls, and after its last step."""
        return self.schedule.finished or (self.schedule.falls and not self.latent_gains)

    def _path_loss(
        self, flow: LatentGaussian, posterior: LinearPosterior, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """KL(q || p^) by its path gradient, at a latent that stays."""
        loss, elbo = path_loss(
            flow, self.target.summary, posterior.value_and_score, BATCH, generator
        )
        self.schedule.record(elbo)
        return loss, {"objective_nats": -elbo}

    def _widen(self, flow: Flow, generator: torch.Generator) -> None:
        """Give x the standard deviations that the posterior has."""
        assert isinstance(flow, LatentGaussian) and self.posterior is not None, "after its steps"
        latent = LatentPosterior(flow, self.target.summary, self.posterior)
        spread = spread_of(latent, WIDEST, generator)
        flow.closed.stretch(spread)
        self.findings["latent_spread"] = spread

    @torch.no_grad()
    def _check(self, flow: Flow, generator: torch.Generator) -> None:
        draws = min(CHECK, self.stopping.points - self.target.ledger.points)
        if draws < LEAST_CHECK:
            return
        x, log_q = flow.sample_with_log_prob(self.target.summary, draws, generator)
        drawn = self.target.evaluate(x, len(self.batches))
        valid = drawn.valid
        if self.posterior is not None and int(valid.sum()) > 1:
            predicted, _ = self.posterior.log_likelihood(x[valid])
            error = drawn.log_likelihood[valid] - predicted
            self.findings["model_error_nats"] = float(error.std(correction=0))
            self.findings["elbo_nats"] = float((drawn.log_density - log_q)[valid].mean())

    # --- what is told ---

    @property
    def _why_learnt(self) -> str:
        points, rank = sum(self.batches), self.known.rank
        directions = f"{rank} directions of the data"
        if self.known.error_nats < KNOWN:
            return f"F is linear, and known after {points} evaluations ({directions})"
        budget = self.stopping.evaluations
        return f"the budget of {budget} evaluations is spent, and {directions} are known"

    @property
    def _how_converged(self) -> list[str]:
        """How training ended, in words; nothing where nothing was trained."""
        if not self.latent.finished:
            return []
        found = [
            self.schedule.reason,
            f"{self.latent.finished} (score error {self.latent.score_error:.2g} per parameter)",
        ]
        spread = self.findings.get("latent_spread", 1.0)
        return [*found, f"the latent was widened by {spread - 1:.1%}"] if spread > 1 else found

    @property
    def warning(self) -> str:
        error = self.findings.get("model_error_nats", 0.0)
        if error <= MISPREDICTED:
            return ""
        return (
            f"the model of F mispredicts the log-likelihood of fresh draws by {error:.2g} nats:"
            " more evaluations would narrow the posterior"
        )

    @property
    def outcome(self) -> dict[str, float | str]:
        """Which model was learnt, its error at new points, and how the training went."""
        found: dict[str, float] = {"operator_rank": self.known.rank} | self.findings
        if self.known.error is not None:
            found["prediction_error_linear"] = self.known.error
        if self.latent.elbo:
            found |= {
                "path_steps": self.schedule.step,
                "latent_gain_nats": sum(self.latent_gains),
                "latent_score_error": self.latent.score_error,
            }
        return {"operator_model": "linear"} | {
            name: round(value, 6) for name, value in found.items()
        }

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and tensors."""
        return {
            "phase": self.phase,
            "schedule": self.schedule.state_dict(),
            "batches": list(self.batches),
            "known": self.known.state_dict(),
            "peak": None if self.posterior is None else self.posterior.peak,
            "latent": self.latent.state_dict(),
            "latent_gains": list(self.latent_gains),
            "findings": dict(self.findings),
            "ledger": self.target.ledger.state_dict(),
            "stopping": self.stopping.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.phase = state["phase"]
        self.schedule.load_state_dict(state["schedule"])
        self.latent.load_state_dict(state["latent"])
        self.latent_gains = [float(gain) for gain in state["latent_gains"]]
        self.findings = dict(state["findings"])
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])
        self.batches = [int(count) for count in state["batches"]]
        self.known.load_state_dict(state["known"])
        if state["peak"] is not None:
            self.posterior = LinearPosterior(self.target.problem, self.known, state["peak"])
