"""Accuracy against the exact posterior during fine-tuning; needs no evaluation of F."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from pflow.diagnostics.accuracy import accuracy_against_exact
from pflow.execution.seeds import generator_for
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.target_objective import TargetObjective
from pflow.problems.base import ExactPosterior

__all__ = ["AccuracyMonitor"]

FIRST_MARK = 32  # evaluations
ELEMENTS = 2**20  # of x in the draws of one measurement
FEWEST_DRAWS = 200


@dataclass(frozen=True)
class AccuracyMonitor:
    """Measures at 0, 32, 64, 128, ... evaluations and at the end.

    Where the problem has no exact posterior, nothing is measured.

    Arguments:
        exact: the exact posterior, if there is one.
        target: p~, for the summary of its observation.
        seed: of the draws, the same at every measurement.
        draws: of the flow and of the exact posterior, fewer where models are large.
    """

    exact: ExactPosterior | None
    target: Target
    seed: int
    draws: int = 4000
    criterion: ClassVar[str | None] = None
    patience: ClassVar[int] = 0

    def mark(self, objective: TargetObjective) -> int:
        """0 below 32 evaluations, then one more at each doubling."""
        return int(objective.evaluations_learnt_from // FIRST_MARK).bit_length()

    @torch.no_grad()
    def measure(self, flow: Flow) -> dict[str, float]:
        """Divergences, effective sample size and error of the evidence, as `accuracy_against_exact`
        names them. Nothing of a flow that has diverged, whose densities are NaN or whose draws all
        lie where the posterior has none: the next step of its training says so, or goes back to a
        better state.
        """
        if self.exact is None or self.exact.log_evidence is None:
            return {}
        generator = generator_for(self.seed, "monitor")
        draws = max(FEWEST_DRAWS, min(self.draws, ELEMENTS // math.prod(flow.model_shape)))
        x, log_q = flow.sample_with_log_prob(self.target.summary, draws, generator)
        truth = self.exact.sample(draws, generator).to(x)
        log_q_of_truth = flow.log_prob(truth, self.target.summary)
        log_posterior = self.exact.log_density(x.cpu())
        undefined = (log_q, log_posterior, log_q_of_truth)
        if any(values.isnan().any() for values in undefined) or log_posterior.max() == -math.inf:
            return {}
        log_densities = (
            log_q,
            log_posterior,
            self.exact.log_density(truth.cpu()),
            log_q_of_truth,
        )
        return accuracy_against_exact(
            *(values.double().cpu().numpy() for values in log_densities),
            log_evidence_exact=self.exact.log_evidence,
        )
