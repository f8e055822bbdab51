"""Bayesian inverse problems: a prior, a low- and a high-fidelity operator, noise, and where known
the exact posterior.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
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

PROBLEMS: dict[str, type[Problem]] = {
    problem.name: problem
    for problem in (
        Bimodal,
        Darcy,
        Gaussian,
        LogNormal,
        Poisson,
        Rosenbrock,
        Seismic,
        TravelTime,
        Waveform,
    )
}


def build_problem(name: str, **settings: Any) -> Problem:
    """The problem of that name, with its settings.

    Raises:
        PflowError: for a name or a setting that does not exist, naming the nearest, and for
            impossible values.
    """
    if name not in PROBLEMS:
        raise PflowError(
            f"`problem.name` (={name!r}) must be one of"
            f" {_choices(PROBLEMS)}{_nearest(name, PROBLEMS)}"
        )
    known = inspect.signature(PROBLEMS[name]).parameters
    for setting in settings:
        if setting not in known:
            raise PflowError(
                f"`problem.{setting}` is not a setting of {name!r}, which has"
                f" {_choices(known)}{_nearest(setting, known)}"
            )
    return PROBLEMS[name](**settings)


def _choices(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
