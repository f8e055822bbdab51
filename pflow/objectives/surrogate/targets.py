r"""Targets that end the evaluations before the budget is spent.

    shift        what more evaluations, however many, are predicted to change (`forecast`)
    ESS          (sum w)^2 / (n sum w^2),   w = p~ / p^ at fresh draws of p^
    score error  mean of |R^{-1} (grad log p^ - grad log p~)|^2 / D at the same draws

p^ is the posterior of the model of F, before the draws have taught it, and R R^T the precision of
its Gaussian. Each round has a p^ of its own with an unknown constant, so log w is centred in each
round (and stretched by sqrt(k / (k - 1)) for its k draws).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from pflow.objectives.stopping import Stopping, effective_fraction
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.forecast import next_shift
from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.operator_model import OperatorModel

__all__ = ["Targets"]

WINDOW = 32  # draws
IN_A_ROW = 3  # rounds whose forecasts must all have reached the target


class Targets:
    """The targets of one run, and what the newest rounds say of them.

    Arguments:
        stopping: its `ess_fraction` and `score_error`, None for no target.
        shift: in posterior standard deviations; None for no target.
    """

    def __init__(self, stopping: Stopping, shift: float | None) -> None:
        self.ess_fraction, self.score_error = stopping.ess_fraction, stopping.score_error
        self.shift = shift
        self.course: list[tuple[int, float]] = []
        self.log_weights = torch.empty(0, dtype=torch.float64)
        self.score_errors = torch.empty(0, dtype=torch.float64)

    def record(
        self, new: Evaluated, asked: int, posterior: OperatorModel, frame: PosteriorGaussian
    ) -> None:
        """Draws of p^ that have been evaluated.

        Arguments:
            new: the valid ones.
            asked: all of them; those that are not valid have weight zero.
            posterior: p^ that they were drawn from.
            frame: its Gaussian.
        """
        if len(new) < 2 or (self.ess_fraction is None and self.score_error is None):
            return
        log_density, score = posterior.value_and_score(new.v)
        if posterior.closed_form:  # then they are draws of its Gaussian
            log_density = -0.5 * frame.whiten(new.v).square().sum(1)
        log_weight = new.log_density - log_density
        stretch = math.sqrt(len(new) / (len(new) - 1))
        log_weight = (log_weight - log_weight.mean()) * stretch
        lost = torch.full((asked - len(new),), -math.inf, dtype=torch.float64)
        self.log_weights = torch.cat([self.log_weights, log_weight, lost])[-WINDOW:]
        truth = new.gradient + posterior.model.prior_score(new.v)
        error = frame.pull(score - truth).square().mean(1)
        self.score_errors = torch.cat([self.score_errors, error])[-WINDOW:]

    def see_shift(self, points: int, shift: float | None) -> None:
        """The expected shift after a round; None while no model has been tested."""
        if shift is not None:
            self.course.append((points, shift))

    @property
    def next_shift(self) -> float | None:
        """What another 100 evaluations are predicted to change; None where nothing is known."""
        return next_shift(self.course) if self.course else None

    @property
    def reached(self) -> str:
        """The target that has been reached, in words; empty for none."""
        newest = [shift for _, shift in self.course[-IN_A_ROW:]]
        if self.shift is not None and len(newest) == IN_A_ROW and max(newest) <= self.shift:
            return f"`target_shift` (={self.shift:g}) was reached in {IN_A_ROW} rounds"
        fraction = effective_fraction(self.log_weights) if len(self.log_weights) == WINDOW else 0.0
        if self.ess_fraction is not None and fraction >= self.ess_fraction:
            return (
                f"the effective sample size fraction ({fraction:.2f} over {WINDOW} draws of the"
                f" model's posterior) reached its target {self.ess_fraction}"
            )
        full = len(self.score_errors) == WINDOW
        error = float(self.score_errors.mean()) if full else math.inf
        if self.score_error is not None and error <= self.score_error:
            return (
                f"the score error ({error:.3g} per parameter over {WINDOW} draws of the model's"
                f" posterior) reached its target {self.score_error}"
            )
        return ""

    def state_dict(self) -> dict[str, Any]:
        """The newest rounds."""
        return {
            "course": torch.tensor(self.course, dtype=torch.float64).reshape(-1, 2),
            "log_weights": self.log_weights,
            "score_errors": self.score_errors,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.course = [(int(points), float(shift)) for points, shift in state["course"]]
        self.log_weights, self.score_errors = state["log_weights"], state["score_errors"]
