"""An existing problem under another prior: estimated from training models, or learnt."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.problems.base import Fidelity, Problem
from pflow.problems.priors.base import Prior
from pflow.problems.stationary import StationaryGaussian, StationaryPosterior

__all__ = ["PriorOverride"]


class PriorOverride(Problem):
    """The operators, noise and summaries of an existing problem, under another prior than its own.

    To build a problem from a prior in the first place, see `PriorProblem`. With a stationary
    Gaussian prior, a linear operator and independent noise the posterior is exact.

    Arguments:
        problem: whose prior is replaced; true models are drawn from the new one.
        prior: p(x), see `pflow.problems.priors`.
    """

    def __init__(self, problem: Problem, prior: Prior) -> None:
        super().__init__(
            problem.low_fidelity,
            problem.high_fidelity,
            None,
            problem.parameter_names,
            noise=problem.noise,
        )
        self.name, self.model_unit, self.data_unit = (
            problem.name,
            problem.model_unit,
            problem.data_unit,
        )
        self.problem, self.prior = problem, prior

    @property
    def summary_shape(self) -> tuple[int, ...]:
        return self.problem.summary_shape

    def summary(self, y: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *summary"]:
        return self.problem.summary(y)

    def physical(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *physical"]:
        return self.problem.physical(x)

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n *model"]:
        return self.prior.sample(n, generator).to(dtype)

    def log_prior(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        return self.prior.log_density(x)

    def exact_posterior(
        self, y: Float[Tensor, "1 *data"], fidelity: Fidelity = "high"
    ) -> StationaryPosterior | None:
        operator = self.operator(fidelity)
        if (
            not isinstance(self.prior, StationaryGaussian)
            or not operator.linear
            or self.noise_std is None
        ):
            return None
        return StationaryPosterior(self.prior, operator, self.noise_std, self.observed(y))
