"""The unnormalised posterior p~(x) = p(y_obs given x) p(x), and the ledger that counts what it costs.

One evaluation = one forward of the high-fidelity operator *with* its gradient, for one x. Values without a gradient are
counted apart, as forwards. Nothing differentiates through a target: an evaluation returns the value and the score, and
objectives build their gradients from these two, so an operator in another language or process costs no more calls.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
    """What has been spent: evaluations (value and gradient), forwards (value only), seconds in the operator, invalid points."""

    evaluations: int = 0
    forwards: int = 0
    seconds: float = 0.0
    invalid: int = 0

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
    """

    problem: Problem
    y: Tensor
    ledger: Ledger = field(default_factory=Ledger)

    def evaluate(self, x: Tensor) -> Evaluation:
        """Value and score at each of the points `x`, (batch, *model); costs `batch` evaluations."""
        began = time.perf_counter()
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            log_likelihood = self.problem.log_likelihood(self.y, self.problem.high_fidelity(x))
            log_prior = self.problem.log_prior(x)
            (score,) = torch.autograd.grad((log_likelihood + log_prior).sum(), x)
        log_likelihood, log_prior = log_likelihood.detach(), log_prior.detach()
        valid = torch.isfinite(log_likelihood + log_prior) & torch.isfinite(score).flatten(1).all(1)
        self.ledger.evaluations += len(x)
        self.ledger.invalid += int((~valid).sum())
        self.ledger.seconds += time.perf_counter() - began
        return Evaluation(x.detach(), log_likelihood, log_prior, score, valid)

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(F(x), log p~(x)) without gradients; costs `batch` forwards."""
        began = time.perf_counter()
        prediction = self.problem.high_fidelity(x)
        log_density = self.problem.log_likelihood(self.y, prediction) + self.problem.log_prior(x)
        self.ledger.forwards += len(x)
        self.ledger.seconds += time.perf_counter() - began
        return prediction, log_density
