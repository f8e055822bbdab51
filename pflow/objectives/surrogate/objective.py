r"""Stage 2 with a model of F: few evaluations teach the model, the model's posterior teaches the flow.

    F^ = F_low + delta          learnt from the predicted data and the adjoint products of all evaluations (`operator_model`)
    p^(x) ~ p(x) L^(x)          the posterior of the model; no evaluation is needed for it
    q_theta                     minimises KL(q_theta || p^) by its path gradient, as long as it takes

1. Explore (`exploration`): the mode first, then rounds of draws of p^; one evaluation each.
2. Train: from the Gaussian of p^ as an affine layer, or in few dimensions from the pretrained weights and draws of all modes.
3. Check: fresh draws of the trained flow and of the Gaussian are evaluated, and the one with the higher ELBO is returned.

Where F and the prior are linear and Gaussian the Gaussian is the posterior of the model, and nothing is trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pflow.flows.affine import AffineFlow
from pflow.flows.base import Flow, standard_normal_log_density
from pflow.inference.evaluation import Evaluation
from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.coordinates import WhitenedData, WhitenedModel
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.exploration import FEW_PARAMETERS, Exploration
from pflow.objectives.surrogate.gaussian import widened
from pflow.objectives.surrogate.operator_model import LowFidelity
from pflow.objectives.surrogate.tempering import tempered_draws
from pflow.objectives.target_objective import TargetObjective

__all__ = ["Surrogate"]

BATCH = 64
STEPS_PER_EVALUATION, FEWEST_STEPS, MOST_STEPS = 6, 600, 3000
LARGE = 256  # parameters beyond which a posterior that a Gaussian describes is left to the Gaussian
FEW_STEPS = 3000  # in few dimensions, where a step takes a millisecond
SETTLED = 2560  # draws of p^ whose moments the affine layer may take
CHECK_EVERY = 50  # steps
POOL = 4096  # draws of p^ that teach all modes
CHECKED, SMALLEST_CHECK = 1 / 8, 8  # part of the budget for the comparison at the end; fewest draws of each
MISPREDICTED = 1.0  # nats of error of the model's log-likelihood, beyond which there is a warning


class Surrogate(TargetObjective):
    """The three steps of the module.

    Arguments:
        target: p~ and its ledger.
        stopping: budget and targets.
        low_fidelity: whether F_low is part of the model of F; False for a model from evaluations alone.
        seed: of random numbers that are not the training's.
    """

    def __init__(self, target: Target, stopping: Stopping, low_fidelity: bool = True, seed: int = 0) -> None:
        super().__init__(target, stopping)
        problem, generator = target.problem, torch.Generator().manual_seed(seed)
        self.coordinates, self.data = WhitenedModel(problem, generator), WhitenedData(problem, target.y)
        operator = problem.low_fidelity if low_fidelity else None
        self.exploration = Exploration(LowFidelity(operator, self.coordinates, self.data), self._evaluate)
        self.phase, self.step, self.steps = "explore", 0, 0
        self.round = 0
        self.pool: Tensor | None = None
        self.gaussian: dict[str, Tensor] = {}
        self.findings: dict[str, float] = {}
        self.best_loss, self.best_weights = math.inf, {}

    # --- the calls of the loop ---

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        left = self.stopping.points - self.target.ledger.points
        if self.phase == "explore" and left <= self._kept():
            self._finish_exploration(flow, generator)
        if self.phase == "train" and self.step >= self.steps:
            if self.best_weights and not self.exploration.few:
                self._see_held_out(flow)
                flow.load_state_dict(self.best_weights)
            self._check(flow, generator)
            self.phase = "done"
        if self.phase == "done":
            self.stop_reason = self.stopping.reason(self.target.ledger.points) or "the model's posterior is learnt"
        return self.phase == "done"

    def loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor | None, dict[str, float]]:
        if self.phase == "explore":
            left = self.stopping.points - self.target.ledger.points - self._kept()
            self.round += 1
            self.exploration.advance(left, generator)
            self._carry_gaussian(flow)
            return None, {f"error of {name}": error for name, error in self.exploration.errors.items()}
        self.step += 1
        if self.pool is not None and (not self.exploration.few or self.step <= self.steps // 2):
            return self._forward_loss(flow, generator)
        return self._path_loss(flow, generator)

    def fraction(self) -> float:
        """0 to 1 over the steps of training, so that the schedule is theirs."""
        return self.step / self.steps if self.steps else 0.0

    # --- evaluations ---

    def _evaluate(self, v: Tensor) -> Evaluated:
        x = self.coordinates.model(v).to(self.target.y)
        return self._whitened(self.target.evaluate(x, self.round))

    def _whitened(self, evaluation: Evaluation) -> Evaluated:
        """What an evaluation tells in whitened coordinates, valid points alone."""
        valid = evaluation.valid & evaluation.prediction.flatten(1).isfinite().all(1)
        v = self.coordinates.whiten(evaluation.x[valid])
        w = self.data.whiten(evaluation.prediction[valid])
        gradient = self.coordinates.pull(evaluation.score[valid]) - self.coordinates.prior_score(v)
        log_density = evaluation.log_density[valid].double() + self.coordinates.log_determinant
        pulled = self.data.pull(self.data.observed - w)
        return Evaluated.at(v, w, gradient, pulled, log_density, self.exploration.low)

    # --- from exploration to training ---

    def _kept(self) -> int:
        """Evaluations for the comparison at the end."""
        kept = int(CHECKED * self.stopping.points)
        nothing = self.exploration.few or self.exploration.posterior.closed_form
        return 0 if nothing or kept < 2 * SMALLEST_CHECK else kept

    def _carry_gaussian(self, flow: Flow) -> None:
        if isinstance(flow, AffineFlow):
            mean, root = self.exploration.moments()
            flow.set_gaussian(mean, root)

    def _finish_exploration(self, flow: Flow, generator: torch.Generator) -> None:
        exploration = self.exploration
        exact = exploration.posterior.closed_form
        if exact and exploration.kind == "affine":
            exploration.frame = widened(exploration.posterior, exploration.frame, generator)
        if not exact and not exploration.few:
            draws = exploration.settle(SETTLED, generator)
            self.pool = None if draws is None else self.coordinates.model(draws).to(self.target.y)
        self._carry_gaussian(flow)
        if exploration.few:
            self.pool = self.coordinates.model(tempered_draws(exploration.posterior, POOL, generator)).to(self.target.y)
            self.steps = FEW_STEPS
        else:
            near = exact or (self.pool is None and self.coordinates.size > LARGE)
            wanted = STEPS_PER_EVALUATION * self.stopping.points
            self.steps = 0 if near else max(FEWEST_STEPS, min(MOST_STEPS, wanted))
        self.gaussian = copy.deepcopy(flow.state_dict()) if isinstance(flow, AffineFlow) else {}
        self.phase = "train"

    # --- training ---

    def _forward_loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """-E_p^[log q], over draws of p^ of all modes."""
        learnt = self.pool[len(self.held_out) :]
        if self.step % CHECK_EVERY == 1:
            self._see_held_out(flow)
        chosen = torch.randint(len(learnt), (4 * BATCH,), generator=generator)
        loss = -flow.log_prob(learnt[chosen], self.target.summary).mean()
        return loss, {}

    @property
    def held_out(self) -> Tensor:
        """Draws that tell when a flow begins to learn the others by heart."""
        return self.pool[: len(self.pool) // 8]

    @torch.no_grad()
    def _see_held_out(self, flow: Flow) -> None:
        loss = float(-flow.log_prob(self.held_out, self.target.summary).mean())
        if loss < self.best_loss:
            self.best_loss, self.best_weights = loss, copy.deepcopy(flow.state_dict())

    def _path_loss(self, flow: Flow, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """KL(q || p^) by its path gradient (arXiv 1703.09194)."""
        z = flow.draw_latent(BATCH, generator)
        x, log_determinant = flow.inverse(z, self.target.summary)
        value, score = self.exploration.posterior.value_and_score(self.coordinates.whiten(x.detach()))
        good = value.isfinite()
        score = self._pushed(score).to(x).reshape(x.shape)
        frozen = {name: parameter.detach() for name, parameter in flow.named_parameters()}
        back, log_volume = functional_call(flow, frozen, (x, self.target.summary))
        log_q = standard_normal_log_density(back) + log_volume
        difference = log_q - (x * score).flatten(1).sum(1)
        elbo = (value.to(x) - self.coordinates.log_determinant - (standard_normal_log_density(z) - log_determinant).detach())[good].mean()
        return difference[good].mean(), {"objective_nats": -float(elbo)}

    def _pushed(self, score: Tensor) -> Tensor:
        """grad_x = L^{-T} grad_v."""
        root = self.coordinates.root
        if root.ndim == 1:
            return score / root
        if self.coordinates.lower:
            return torch.linalg.solve_triangular(root.T, score.T, upper=True).T
        return torch.linalg.solve(root.T, score.T).T

    # --- the check at the end ---

    @torch.no_grad()
    def _check(self, flow: Flow, generator: torch.Generator) -> None:
        """Fresh draws of the trained flow, and of the Gaussian where both can be had; the better one stays in `flow`."""
        left = self.stopping.points - self.target.ledger.points
        if left < 1:
            return
        if not self.gaussian or not self.steps:
            self._elbo(flow, left, generator)
            return
        half = left // 2
        trained, error = self._elbo(flow, left - half, generator)
        weights = copy.deepcopy(flow.state_dict())
        flow.load_state_dict(self.gaussian)
        plain, plain_error = self._elbo(flow, half, generator)
        self.findings |= {"elbo_of_the_flow": trained, "elbo_of_the_gaussian": plain, "elbo_error": math.hypot(error, plain_error)}
        if trained >= plain:
            flow.load_state_dict(weights)

    def _elbo(self, flow: Flow, draws: int, generator: torch.Generator) -> tuple[float, float]:
        """Mean of log p~ - log q over fresh draws and its standard error; notes how well the model had predicted them."""
        x, log_q = flow.sample_with_log_prob(self.target.summary, draws, generator)
        drawn = self.target.evaluate(x, self.round + 1)
        self.stopping.record(drawn, log_q)
        log_weight = torch.where(drawn.valid, drawn.log_density - log_q, -torch.inf).double()
        if drawn.valid.any():
            predicted = self.exploration.posterior.log_likelihood(self.coordinates.whiten(x[drawn.valid]))
            error = drawn.log_likelihood[drawn.valid].double() - predicted
            self.findings["model_error_nats"] = float((error - error.mean()).square().mean().sqrt())
        if not drawn.valid.all():
            return -math.inf, math.inf
        return float(log_weight.mean()), float(log_weight.std() / math.sqrt(max(1, draws))) if draws > 1 else math.inf

    # --- what is told ---

    @property
    def warning(self) -> str:
        error = self.findings.get("model_error_nats", 0.0)
        if error > MISPREDICTED:
            return (
                f"the model of F mispredicts the log-likelihood of fresh draws by {error:.2g} nats: more evaluations, or a better"
                " low fidelity, would change the posterior"
            )
        return ""

    @property
    def outcome(self) -> dict[str, float | str]:
        """Which model won, how well it predicted, and what the check at the end found."""
        exploration = self.exploration
        errors = {f"error of {name}": round(error, 6) for name, error in exploration.errors.items()}
        return {"model": exploration.kind, **errors, **self.findings, "low_fidelity_evaluations": exploration.low.calls}

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "counters": [self.step, self.steps, self.round],
            "exploration": self.exploration.state_dict(),
            "pool": self.pool,
            "gaussian": dict(self.gaussian),
            "findings": dict(self.findings),
            "best": [self.best_loss, dict(self.best_weights)],
            "ledger": self.target.ledger.state_dict(),
            "stopping": self.stopping.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.phase = state["phase"]
        self.step, self.steps, self.round = (int(count) for count in state["counters"])
        self.exploration.load_state_dict(state["exploration"])
        self.pool, self.gaussian, self.findings = state["pool"], dict(state["gaussian"]), dict(state["findings"])
        self.best_loss, self.best_weights = state["best"][0], dict(state["best"][1])
        self.target.ledger.load_state_dict(state["ledger"])
        self.stopping.load_state_dict(state["stopping"])
