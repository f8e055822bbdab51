"""Bayesian inverse problems: a prior, a low- and a high-fidelity operator, noise, and where known
the exact posterior.
"""

from __future__ import annotations

import inspect
from typing import Any

from pflow.errors import PflowError
from pflow.problems.base import ExactPosterior, Problem
from pflow.problems.bimodal import Bimodal
from pflow.problems.darcy import Darcy
from pflow.problems.gaussian import Gaussian
from pflow.problems.lognormal import LogNormal
from pflow.problems.poisson import Poisson
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.rosenbrock import Rosenbrock
from pflow.problems.seismic import Seismic
from pflow.problems.traveltime import TravelTime
from pflow.problems.waveform import Waveform
from pflow.settings.suggestion import did_you_mean

__all__ = [
    "PROBLEMS",
    "Bimodal",
    "Darcy",
    "ExactPosterior",
    "Gaussian",
    "LogNormal",
    "Poisson",
    "PriorProblem",
    "Problem",
    "Rosenbrock",
    "Seismic",
    "TravelTime",
    "Waveform",
    "build_problem",
]

# One entry for each problem that comes with pflow; its class declares the name and the settings.
BUILT_IN = (
    Rosenbrock,
    Gaussian,
    LogNormal,
    Bimodal,
    TravelTime,
    Waveform,
    Poisson,
    Darcy,
    Seismic,
)
PROBLEMS: dict[str, type[Problem]] = {problem.name: problem for problem in BUILT_IN}


def build_problem(name: str, **settings: Any) -> Problem:
    """The problem of that name, with its settings.

    Raises:
        PflowError: for a name or a setting that does not exist, naming the nearest, and for
            impossible values.
    """
    if name not in PROBLEMS:
        raise PflowError(
            f"`problem.name` (={name!r}) must be one of {_choices(name, sorted(PROBLEMS))}"
        )
    arguments = sorted(inspect.signature(PROBLEMS[name]).parameters)
    for setting in settings:
        if setting not in arguments:
            raise PflowError(
                f"`problem.{setting}` is not a setting of {name!r}, which has"
                f" {_choices(setting, arguments)}"
            )
    return PROBLEMS[name](**settings)


def _choices(name: str, choices: list[str]) -> str:
    hint = did_you_mean(name, choices)
    return ", ".join(choices) + (f": {hint}" if hint else "")
