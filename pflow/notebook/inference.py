"""`pflow.infer`: from a problem and an observation to a posterior with a verdict, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.errors import PflowError
from pflow.notebook.configuration import METHOD, default_experiment, merged
from pflow.notebook.experiment import Place, make_posterior
from pflow.notebook.given import given_problem
from pflow.notebook.observation import checked_data
from pflow.notebook.result import Result
from pflow.problems.base import Problem

__all__ = ["infer"]


def infer(
    problem: Any,
    y: Any,
    evaluations: int = 256,
    *,
    folder: str | Path = "results",
    name: str | None = None,
    observation: str = "y",
    amortized: Any = None,
    settings: Mapping[str, Any] | None = None,
    replace: bool = False,
    threads: int = 1,
) -> Result:
    """The posterior p(x given y) of one observation: the stages of the pipeline in this process.

    Pairs (x, y) of the low-fidelity operator train a flow; the flow is fine-tuned to `y` with at
    most `evaluations` of the expensive operator; 1000 draws get their importance weights, each by
    one more forward of the operator, and a verdict. Everything lies in `folder`/`name`, as if
    `snakemake` had made it. A second call returns at once, and one that was stopped continues.

    Arguments:
        problem: what `pflow.problem` makes, or any `pflow.problems.Problem`; the name of a problem
            that comes with pflow; the path of a Python file with a problem's class; a mapping as
            `problem:` in a configuration.
        y: the data, of the shape of one observation.
        evaluations: budget, in forwards with gradient of the expensive operator. In a later call
            it may be larger: evaluations that are known are not repeated.
        folder: of all results.
        name: of the results of this problem; by default the problem's.
        observation: of this `y`; several observations of a problem share one pretraining.
        amortized: a pretrained flow (`pflow.pretrain`, `pflow.load_amortized`) to start from.
        settings: changes of the experiment, as in a configuration:
            `{"simulate": {"train": 20000}, "sample": {"draws": 5000}}` (docs/configuration.md).
        replace: make results of other settings again, in place of an error.
        threads: CPU threads of torch.

    Raises:
        PflowError: an argument is invalid, or results of other settings lie in the folder.
    """
    _require_budget(evaluations)
    given = given_problem(problem)
    data = checked_data(y, given.problem)
    experiment = default_experiment(given.entry, given.problem.model_shape, evaluations)
    if amortized is not None:
        experiment = merged(experiment, amortized.card.experiment(given.problem))
    experiment = merged(experiment, settings or {})
    _require_density(given.problem, experiment)
    place = Place.at(folder, name or (amortized.name if amortized else given.name))
    run = make_posterior(
        place,
        experiment,
        observation,
        data,
        method=METHOD,
        pretrained=amortized.card if amortized else None,
        replace=replace,
        threads=threads,
    )
    return Result(run)


def _require_density(problem: Problem, experiment: Mapping[str, Any]) -> None:
    """Whether the prior has a density, before anything is trained.

    Raises:
        PflowError: it has none, and the settings name no other prior.
    """
    priors = (experiment.get("prior"), experiment["finetune"][METHOD].get("prior"))
    if not any(priors):
        problem.log_prior(problem.sample_prior(1, torch.Generator().manual_seed(0)))


def _require_budget(evaluations: Any) -> None:
    if isinstance(evaluations, bool) or not isinstance(evaluations, (int, np.integer)):
        raise PflowError(f"`evaluations` (={evaluations!r}) must be a whole number")
    if evaluations < 1:
        raise PflowError(f"`evaluations` (={evaluations}) must be positive")
