"""An operator-free model of the posterior: the prior times a model of the likelihood.

It judges a flow without an evaluation, and in low dimension it tells where else mass could be. A
flow that has lost a mode sees nothing of it in its own draws, and scores do not know how much
weight a mode has; but draws of the prior cost no evaluation, and weighted by the model of the
likelihood they are draws of the model's posterior, wherever it lies. In high dimension no prior
draw hits the posterior, the weights collapse, and the model says that it cannot tell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.replay.likelihood_model import LikelihoodModel
from pflow.problems.base import Problem

__all__ = ["TRUSTED", "PosteriorModel"]

DRAWS = 2048
PRIOR_DRAWS = 50_000
MOST_UNKNOWNS = 256  # beyond, no prior draw comes near a posterior
ENOUGH = 100.0  # effective prior draws, below which the model cannot tell
TRUSTED = 1.0  # nats of leave-one-out error of the values up to which the model judges a flow
FAR = 4.0  # nats below the rarest of a flow's own draws: practically no density


class PosteriorModel:
    """log p^(x) = log p(x) + log L^(x).

    Arguments:
        likelihood: log L^.
        problem: the prior.
        summary: what the flow sees of the observation, of the dtype and on the device of
            everything, (1, *summary).
        generator: of the prior draws.

    Attributes:
        draws: of the normalised model, (n, *model); None where they cannot be had.
        log_evidence: log of the model's integral, with the draws.
    """

    def __init__(
        self,
        likelihood: LikelihoodModel,
        problem: Problem,
        summary: Tensor,
        generator: torch.Generator,
    ) -> None:
        self.likelihood, self.problem, self.summary = likelihood, problem, summary
        self.draws, self.log_evidence = None, math.nan
        if math.prod(problem.model_shape) > MOST_UNKNOWNS:
            return
        prior = problem.sample_prior(PRIOR_DRAWS, generator).to(summary)
        log_weight = likelihood.log_likelihood(prior.flatten(1))
        weight = torch.softmax(log_weight, 0)
        if float(1 / weight.square().sum()) >= ENOUGH:
            chosen = torch.multinomial(weight.cpu(), DRAWS, replacement=True, generator=generator)
            self.draws = prior[chosen.to(prior.device)]
            self.log_evidence = float(torch.logsumexp(log_weight, 0) - math.log(len(prior)))

    def log_density(self, x: Tensor) -> Tensor:
        """log p^(x), not normalised, at (n, *model)."""
        return self.likelihood.log_likelihood(x.flatten(1)) + self.problem.log_prior(x)

    def divergence(self, flow: Flow, seed: int) -> float:
        """Reverse KL, and forward where there are draws for it; but for a constant."""
        return self.reverse_divergence(flow, seed) + (self.forward_divergence(flow) or 0.0)

    @torch.no_grad()
    def reverse_divergence(self, flow: Flow, seed: int) -> float:
        """KL(q || p^) but for a constant, with the same latents for the same seed."""
        x, log_q = flow.sample_with_log_prob(
            self.summary, DRAWS, torch.Generator().manual_seed(seed)
        )
        return float((log_q - self.log_density(x)).mean())

    @torch.no_grad()
    def forward_divergence(self, flow: Flow) -> float | None:
        """KL(p^ || q); None where the model cannot tell."""
        if self.draws is None:
            return None
        return float(
            (
                self.log_density(self.draws)
                - self.log_evidence
                - flow.log_prob(self.draws, self.summary)
            ).mean()
        )

    @torch.no_grad()
    def beyond(self, flow: Flow, log_q_of_own_draws: Tensor) -> Tensor | None:
        """Draws of the model where the flow has practically no density, (n, *model); None where the
        model cannot tell.
        """
        if self.draws is None:
            return None
        return self.draws[flow.log_prob(self.draws, self.summary) < log_q_of_own_draws.min() - FAR]
