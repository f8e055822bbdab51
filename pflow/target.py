"""The unnormalised posterior p~(x) = p(y_obs given x) p(x), and the ledger that counts what it costs.

One evaluation = one forward of the high-fidelity operator *with* its gradient, for one x. Values without a gradient are
counted apart, as forwards. Nothing differentiates through a target: an evaluation returns the value and the score, and
objectives build their gradients from these two, so an operator in another language or process costs no more calls.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pflow.evaluations import EvaluationStore
from pflow.problems.base import Problem

__all__ = ["Evaluation", "Ledger", "Target"]


@dataclass(frozen=True)
class Evaluation:
    """A batch of evaluated points.

    Attributes:
        x: points, (batch, *model).
        log_likelihood: log p(y_obs given x), (batch,).
        log_prior: log p(x), (batch,).
        score: grad_x log p~(x), (batch, *model).
        valid: points whose value and score are finite, (batch,).
    """

    x: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    score: Tensor
    valid: Tensor

    @property
    def log_density(self) -> Tensor:
        """log p~(x), (batch,)."""
        return self.log_likelihood + self.log_prior


@dataclass
class Ledger:
    """What has been spent.

    Attributes:
        evaluations: points whose value and gradient this run has asked for.
        recalled: those among them that the store of evaluations knew, so that the operator was not asked again.
        forwards: points whose value alone was asked for.
        invalid: evaluations that were NaN or infinite.
        seconds: time in the operator.
    """

    evaluations: int = 0
    recalled: int = 0
    forwards: int = 0
    invalid: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, float]:
        """Plain numbers, for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue counting where `state` stopped."""
        vars(self).update(state)


@dataclass(frozen=True)
class Target:
    """p~(x) = p(y_obs given x) p(x) for one observation.

    Arguments:
        problem: prior, operators and noise.
        y: the observation, (1, *data).
        store: evaluations made before; asked first, and told of every new one.
        gradient: False for values alone: scores are then zero, and not asked for.
    """

    problem: Problem
    y: Tensor
    gradient: bool = True
    ledger: Ledger = field(default_factory=Ledger)
    store: EvaluationStore = field(default_factory=lambda: EvaluationStore(None))

    @cached_property
    def summary(self) -> Tensor:
        """What the flow sees of y, (1, *summary)."""
        return self.problem.summary(self.y)

    def evaluate(self, x: Tensor, round_number: int = 0) -> Evaluation:
        """Value and score at each of the points `x`, (batch, *model); costs `batch` evaluations.

        Arguments:
            round_number: which state of the flow drew the points, for the store.
        """
        x = x.detach()
        points = x.cpu().numpy()
        rows = self.store.find(points)
        new = np.flatnonzero(rows < 0)
        if len(new):
            self.store.append(self._ask(x[torch.from_numpy(new).to(x.device)], points[new], round_number))
            rows = self.store.find(points)
        found = {name: torch.from_numpy(values).to(x.device) for name, values in self.store.take(rows).items()}
        log_likelihood, log_prior, score = found["log_likelihood"], found["log_prior"], found["score"]
        valid = torch.isfinite(log_likelihood + log_prior) & torch.isfinite(score).flatten(1).all(1)
        self.ledger.evaluations += len(x)
        self.ledger.recalled += len(x) - len(new)
        self.ledger.invalid += int((~valid).sum())
        return Evaluation(x, log_likelihood, log_prior, score, valid)

    def _ask(self, x: Tensor, points: np.ndarray, round_number: int) -> dict[str, np.ndarray]:
        """One call of the operator for the whole batch, forward and, unless values are enough, gradient."""
        began = time.perf_counter()
        with torch.set_grad_enabled(self.gradient):
            x = x.requires_grad_(self.gradient)
            log_likelihood = self.problem.log_likelihood(self.y, self.problem.high_fidelity(x))
            log_prior = self.problem.log_prior(x)
            score = torch.autograd.grad((log_likelihood + log_prior).sum(), x)[0] if self.gradient else torch.zeros_like(x)
        seconds = time.perf_counter() - began
        self.ledger.seconds += seconds
        answers = {"score": score, "log_likelihood": log_likelihood.detach(), "log_prior": log_prior.detach()}
        return {
            "x": points,
            **{name: values.cpu().numpy() for name, values in answers.items()},
            "seconds": np.full(len(points), seconds / len(points), dtype=np.float32),
            "round": np.full(len(points), round_number, dtype=np.int32),
        }

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(F(x), log p~(x)) without gradients; costs `batch` forwards."""
        began = time.perf_counter()
        prediction = self.problem.high_fidelity(x)
        log_density = self.problem.log_likelihood(self.y, prediction) + self.problem.log_prior(x)
        self.ledger.forwards += len(x)
        self.ledger.seconds += time.perf_counter() - began
        return prediction, log_density
