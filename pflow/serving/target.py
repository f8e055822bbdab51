"""The unnormalised posterior density of a run, log p(y_obs given x) + log p(x), from the settings
that its draws were made with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.config.decoding import decode
from pflow.config.jobs import SampleJobSettings
from pflow.config.priors import ProblemPriorSettings
from pflow.config.problems import has_operator
from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.problems.base import Problem
from pflow.stages.io.inputs import problem_from
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import RunFolder
from pflow.storage.origins import read_origin

__all__ = ["TargetDensity", "target_density"]


@dataclass(frozen=True)
class TargetDensity:
    """log p~(x) in float64; a value costs a forward of F, a gradient an evaluation.

    Attributes:
        problem: prior, operator and noise.
        y: the observation, (1, *data).
    """

    problem: Problem
    y: Float[Tensor, "1 *data"]

    @property
    def differentiable(self) -> bool:
        """Whether the operator has a gradient."""
        return self.problem.high_fidelity.differentiable

    def log_density(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        """log p~(x), x flat."""
        return self._target.predict(x.reshape(-1, *self.problem.model_shape))[1]

    def value_and_gradient(
        self, x: Float[Tensor, " size"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " size"]]:
        """log p~ at one x, and its gradient."""
        evaluated = self._target.evaluate(x.reshape(1, *self.problem.model_shape))
        return evaluated.log_density[0], evaluated.score.flatten()

    @property
    def _target(self) -> Target:
        """One for each question: it would keep every evaluation."""
        return Target(self.problem, self.y)


def target_density(run: RunFolder) -> TargetDensity:
    """The target of a run.

    Arguments:
        run: with its posterior store; files of a user's own problem are looked up from the working
            folder, as when it was made.

    Raises:
        PflowError: nothing says what made the store, the problem has no operator or is an object of
            another process, or its prior is a trained or fitted one.
    """
    origin = read_origin(run.posterior)
    if origin is None:
        raise PflowError(
            f"{run.folder} does not say how its draws were made, so that the target is unknown:"
            " leave out --target, or run snakemake to its end"
        )
    settings = decode(SampleJobSettings, json.loads(origin.settings), "")
    if not has_operator(settings.problem) or not isinstance(settings.prior, ProblemPriorSettings):
        raise PflowError(
            f"the target of {run.folder} cannot be served, because its problem has no operator or"
            f" its prior (`{settings.prior.tag_value}`) is not the problem's own: leave out"
            " --target"
        )
    y = read_datatree(run.posterior)["observed_data"].to_dataset()["y"].values
    return TargetDensity(problem_from(settings.problem), torch.from_numpy(y).double()[None])
