"""The problem with the prior that the setting `prior` and its file describe."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pflow.config.priors import GaussianPriorSettings, PriorSettings, ProblemPriorSettings
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.problems.base import Problem
from pflow.problems.prior_override import PriorOverride
from pflow.stages.io.gaussian_prior import with_gaussian_prior
from pflow.stages.io.weights import load_flow

__all__ = ["FrozenFlow", "with_prior"]


class FrozenFlow:
    """The `Prior` of a flow with fixed weights at one summary (which an unconditional flow
    ignores).
    """

    def __init__(self, flow: Flow, summary: Tensor) -> None:
        self.flow, self.summary = flow.requires_grad_(False), summary
        self.shape = tuple(flow.model_shape)

    def log_density(self, x: Tensor) -> Tensor:
        """log q(x), computed where and in what precision the flow is."""
        like = next(self.flow.parameters())
        return self.flow.log_prob(x.to(like), self.summary.to(like)).to(x)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of q."""
        return self.flow.sample(self.summary, n, generator)


def with_prior(problem: Problem, settings: PriorSettings, file: Path | None, y: Tensor) -> Problem:
    """`problem`, with the prior that `settings` describes.

    Arguments:
        problem: with its own prior.
        settings: which prior.
        file: its spectrum or its weights; None for the problem's own.
        y: the observation, (1, *data), on the device where the prior is evaluated.

    Raises:
        PflowError: the file is not named.
    """
    if isinstance(settings, ProblemPriorSettings):
        return problem
    if isinstance(settings, GaussianPriorSettings):
        return with_gaussian_prior(problem, file)
    if file is None:
        raise PflowError(
            f"the prior `{settings.tag_value}` is read from a file: name it with --prior"
        )
    return PriorOverride(problem, FrozenFlow(load_flow(file, y.device)[0], problem.summary(y)))
