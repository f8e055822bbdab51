r"""Stage 2 with a model of F: few evaluations teach the model, the model's posterior teaches the
flow.

    F^ = F_low + delta      learnt from predicted data and adjoint products (`operator_model`)
    p^(x) ~ p(x) L^(x)      the posterior of the model; no evaluation is needed for it
    q_theta                 learns p^ (`flow_training`; in few parameters `ratio_training`)

1. Explore (`exploration`): the mode first, then rounds of draws of p^.
2. Train. In more than a few parameters the flow starts as the Gaussian of p^, an affine layer; in
   few it starts from the weights at hand and learns draws of all modes first.
3. Check: fresh draws of the trained flow, of the Gaussian and, where the model of F mispredicts, of
   Laplace's approximation are evaluated; the highest ELBO wins.

Where the model is affine and the prior Gaussian, the Gaussian is p^ itself, and nothing is trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.affine import AffineFlow
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.check import Checked, checked
from pflow.objectives.surrogate.competition import FEW_PARAMETERS
from pflow.objectives.surrogate.coordinates import DENSE, WhitenedData, WhitenedModel
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.exploration import Exploration
from pflow.objectives.surrogate.findings import findings_of, shift_of, warning_of
from pflow.objectives.surrogate.flow_training import FlowTraining
from pflow.objectives.surrogate.forecast import in_words
from pflow.objectives.surrogate.gaussian import PosteriorGaussian, centred
from pflow.objectives.surrogate.operator_model import LowFidelity, why_unusable
from pflow.objectives.surrogate.ratio_training import RatioTraining
from pflow.objectives.surrogate.targets import Targets
from pflow.objectives.surrogate.tempering import tempered_draws
from pflow.objectives.target_objective import TargetObjective

__all__ = ["Surrogate", "steps_of"]

STEPS_PER_EVALUATION, FEWEST_STEPS, MOST_STEPS = 6, 600, 3000
FEW_STEPS = 2500  # in few dimensions at most, where a step takes a few milliseconds
LARGE = 256  # parameters beyond which a posterior that a Gaussian describes is left to it
POOL, SETTLED = 4096, 2560  # draws of p^ to learn from, in few dimensions and in more
CHECKED, SMALLEST_CHECK = 8, 16  # an eighth of the budget for the check; the fewest draws for one
DOUBTED = 2 * 3  # draws for a check of three candidates, where the model of F mispredicts


def steps_of(evaluations: int, parameters: int) -> int:
    """Operator-free training steps of a run."""
    if parameters <= FEW_PARAMETERS:
        return FEW_STEPS
    return max(FEWEST_STEPS, min(MOST_STEPS, STEPS_PER_EVALUATION * evaluations))


class Surrogate(TargetObjective):
    """The three steps of the module.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets.
        low_fidelity: whether F_low is part of the model of F; False for a model from evaluations
            alone.
        seed: of the moments of a prior that has none in closed form.
        shift: posterior standard deviations; where more evaluations are predicted to move the
            posterior mean by no more, the rest of the budget is not spent. None for no such target.

    Raises:
        PflowError: with more than 4096 parameters, whose Gaussians are matrices too large; a target
            for scores where F has no gradient.
    """

    def __init__(
        self,
        target: Target,
        stopping: Stopping,
        low_fidelity: bool = True,
        seed: int = 0,
        shift: float | None = None,
    ) -> None:
        super().__init__(target, stopping)
        problem = target.problem
        size = math.prod(problem.model_shape)
        if size > DENSE:
            raise PflowError(
                f"`objective: surrogate` keeps matrices of the parameters (={size}), and they must"
                f" be at most {DENSE} for that: choose score_replay or reverse_kl"
            )
        if stopping.score_error is not None and not target.gradient:
            raise PflowError(
                f"`target_score_error` (={stopping.score_error}) needs the gradient of F, which has"
                " none: use target_shift or target_ess_fraction"
            )
        self.coordinates = WhitenedModel(problem, torch.Generator().manual_seed(seed))
        self.data = WhitenedData(problem, target.y)
        random = torch.Generator().manual_seed(seed)
        self.low_unusable = why_unusable(problem, random) if low_fidelity else ""
        usable = low_fidelity and not self.low_unusable
        operator = problem.low_fidelity if usable else None
        low = LowFidelity(operator, self.coordinates, self.data)
        self.targets = Targets(stopping, shift)
        self.exploration = Exploration(low, self._evaluate, self.targets.record)
        learning = RatioTraining if self.exploration.few else FlowTraining
        self.training: RatioTraining | FlowTraining = learning(target.summary)
        self.phase, self.step, self.steps, self.round = "explore", 0, 0, 0
        self.most, self.reached = stopping.points, ""
        self.gaussian: dict[str, Tensor] = {}
        self.findings: dict[str, float] = {}

    @property
    def _left(self) -> int:
        """Points that the budget still pays, or after a target was reached the check."""
        return self.most - self.target.ledger.points

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        if self.phase == "explore" and self._left <= self._kept():
            self._start_training(flow, generator)
        elif self.phase == "explore" and self.targets.reached:
            self._end_early()
            self._start_training(flow, generator)
        if self.phase == "train" and isinstance(self.training, RatioTraining):
            self.training.close_cycle(flow, self.exploration.posterior, self.step, generator)
        if self.phase == "train" and (self.training.ended or self.step >= self.steps):
            self._finish(flow, generator)
        if self.phase == "done":
            why = self.reached or self.stopping.reason(self.target.ledger.points)
            shift = self.targets.next_shift
            self.stop_reason = (
                f"the flow has learnt the posterior of the model of F ({self.exploration.kind});"
                f" {why}{'' if shift is None else f'. {in_words(shift)}'}"
            )
        return self.phase == "done"

    def loss(
        self, flow: Flow, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        if self.phase == "explore":
            self.round += 1
            self.exploration.advance(self._left - self._kept(), generator)
            self.targets.see_shift(self.target.ledger.points, shift_of(self.exploration))
            if self.coordinates.size <= LARGE:  # for the history alone
                self._carry_gaussian(flow)
            return None, {}
        self.step += 1
        return self.training.loss(flow, self.exploration.posterior, self.step, generator)

    def fraction(self) -> float:
        """Of the training steps."""
        return self.step / self.steps if self.steps else 0.0

    @property
    def learning_rate_factor(self) -> float:
        return self.training.learning_rate_factor(self.step, self.fraction())

    # --- evaluations ---

    def _evaluate(self, v: Tensor) -> Evaluated:
        """What F tells at v, (n, D), in whitened coordinates; valid points alone."""
        x = self.coordinates.model(v).to(self.target.y)
        evaluation = self.target.evaluate(x, self.round)
        valid = evaluation.valid & evaluation.prediction.flatten(1).isfinite().all(1)
        v = self.coordinates.whiten(evaluation.x[valid])
        w = self.data.whiten(evaluation.prediction[valid])
        log_density = evaluation.log_density[valid].to(v) + self.coordinates.log_determinant
        gradient, pulled = torch.zeros_like(v), torch.zeros_like(w)
        if self.target.gradient:
            score = self.coordinates.pull(evaluation.score[valid])
            gradient = score - self.coordinates.prior_score(v)
            pulled = self.data.pull(self.data.observed - w)
        return Evaluated.at(v, w, gradient, pulled, log_density, self.exploration.low)

    def _end_early(self) -> None:
        """A target was reached: of the budget the check alone is left."""
        self.reached, spent = self.targets.reached, self.target.ledger.points
        self.most = spent  # whose share the check is
        self.most += min(self.stopping.points - spent, self._kept())

    def _kept(self) -> int:
        """Evaluations that exploration leaves for the check."""
        kept = self.most // CHECKED
        if self.exploration.mispredicts:
            return max(kept, DOUBTED)
        nothing = self.exploration.few or self.exploration.posterior.closed_form
        return 0 if nothing or kept < SMALLEST_CHECK else kept

    # --- from exploration to training, and to the end ---
    def _start_training(self, flow: Flow, generator: torch.Generator) -> None:
        exploration, pool = self.exploration, None
        exploration.conclude(generator)
        if exploration.few:
            pool = tempered_draws(exploration.posterior, POOL, generator)
            self.steps = steps_of(self.stopping.points, self.coordinates.size)
        elif not exploration.posterior.closed_form:
            pool = exploration.settle(SETTLED, generator)
            near = pool is None and self.coordinates.size > LARGE
            self.steps = 0 if near else steps_of(self.stopping.points, self.coordinates.size)
            if near:
                exploration.frame = centred(exploration.posterior, exploration.frame, generator)
        if pool is not None:
            pool = self.coordinates.model(pool).to(self.target.y)
            self.training.start(pool, exploration.posterior, flow)
        self._carry_gaussian(flow)
        self.gaussian = copy.deepcopy(flow.state_dict()) if isinstance(flow, AffineFlow) else {}
        self.phase = "train"

    def _carry_gaussian(self, flow: Flow, frame: PosteriorGaussian | None = None) -> None:
        if isinstance(flow, AffineFlow):
            flow.set_gaussian(*self.exploration.moments(frame))

    @torch.no_grad()
    def _finish(self, flow: Flow, generator: torch.Generator) -> None:
        """The candidate with the highest ELBO stays in `flow`."""
        self.phase = "done"
        if self.steps:
            self.training.keep_best(flow)
        if self._left < 1:
            return
        candidates = {"flow": copy.deepcopy(flow.state_dict())}
        if self.gaussian:
            candidates = (candidates if self.steps else {}) | {"gaussian": self.gaussian}
            if self._left >= DOUBTED and self.exploration.mispredicts:
                self._carry_gaussian(flow, self.exploration.around_best())
                candidates["around_mode"] = copy.deepcopy(flow.state_dict())
        if 1 < len(candidates) > self._left // 2:  # a draw or none of each decides nothing
            return
        found: dict[str, Checked] = {}
        for name, weights in candidates.items():
            flow.load_state_dict(weights)
            share = -(-self._left // (len(candidates) - len(found)))
            posterior, round_ = self.exploration.posterior, self.round + 1
            found[name] = checked(flow, self.target, posterior, share, round_, generator)
            if (error := found[name].model_error) is not None:
                self.findings["model_error_nats"] = error
        flow.load_state_dict(candidates[max(found, key=lambda name: found[name].elbo)])
        if len(found) > 1:
            self.findings |= {f"{name}_elbo_nats": one.elbo for name, one in found.items()}
            errors = [one.error for one in found.values()][:2]
            self.findings["elbo_difference_se_nats"] = math.hypot(*errors)

    # --- what is told ---

    @property
    def warning(self) -> str:
        error = self.findings.get("model_error_nats", 0.0)
        return warning_of(self.exploration, error, self.low_unusable)

    @property
    def outcome(self) -> dict[str, float | str]:
        """Which model won, its error at new points, and what the check at the end found."""
        return findings_of(self.exploration, self.targets.next_shift) | self.findings

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "counters": [self.step, self.steps, self.round, self.most],
            "reached": self.reached,
            "targets": self.targets.state_dict(),
            "exploration": self.exploration.state_dict(),
            "training": self.training.state_dict(),
            "gaussian": dict(self.gaussian),
            "findings": dict(self.findings),
            "ledger": self.target.ledger.state_dict(),
            "stopping": self.stopping.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.phase = state["phase"]
        self.step, self.steps, self.round, self.most = (int(count) for count in state["counters"])
        self.reached = state["reached"]
        self.targets.load_state_dict(state["targets"])
        self.exploration.load_state_dict(state["exploration"])
        self.training.load_state_dict(state["training"])
        self.gaussian, self.findings = dict(state["gaussian"]), dict(state["findings"])
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])
