"""The problems of the league: what is asked, the observation, and what a posterior is judged by.

Exact posteriors and two-dimensional ones come from `evaluation_runs`, with KL and a sliced
Wasserstein distance. Problems whose reference is a kept file (benchmarks/references/<file>.npz) are
judged by their moments alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import evaluation_cases
import numpy as np
import torch
from evaluation_runs import posterior
from torch import Tensor

from pflow.diagnostics.moments import mean_error, std_error
from pflow.problems import Problem, build_problem

__all__ = [
    "CACHE",
    "PROBLEMS",
    "QUICK",
    "LeagueProblem",
    "Moments",
    "Setting",
    "floor_of",
    "league_problem",
]

HERE = Path(__file__).parent
CACHE = HERE / "results" / ".league"  # references and pretrained weights that a rerun reads
FEW = 16  # parameters up to which a flow stands alone, without an affine layer below
DRAWS = 16_000  # that moments are judged by: their error stays below that of the references


@dataclass(frozen=True)
class Setting:
    """A problem of the league.

    Attributes:
        seeds: of operator and observation.
        file: of its kept reference; empty where `evaluation_runs.posterior` computes it.
        changes: of the kept reference's settings.
        hidden: of the flow.
        like: a problem that differs in the low fidelity alone, so that rivals, which have none, do
            the same on both.
    """

    seeds: tuple[int, ...] = (0,)
    file: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    hidden: int = 128
    like: str = ""

    @property
    def few(self) -> bool:
        """Whether it has few parameters."""
        return self.hidden == 64


PROBLEMS = {
    "rosenbrock": Setting((0, 1, 2, 3, 4), hidden=64),
    "bimodal": Setting(hidden=64),
    "gaussian-64": Setting((3,)),
    "lognormal-64": Setting((3,)),
    "lognormal-64-1.0": Setting((3,)),
    "lognormal-64-1.5": Setting((3,)),
    "poisson-16": Setting(file="poisson", changes={"low_mesh": 16}),
    "poisson-8": Setting(file="poisson", changes={"low_mesh": 8}, like="poisson-16"),
    "traveltime": Setting(file="traveltime"),
    "darcy": Setting(file="darcy", hidden=256),
    "gaussian-1024": Setting((3,), hidden=256),
}
QUICK = ("rosenbrock", "gaussian-64")
for strength in (1.0, 1.5):
    evaluation_cases.CASES[f"lognormal-64-{strength}"] = evaluation_cases.Case(
        {"side": 8, "strength": strength}, (3,), evaluation_cases.LARGE, 30, (), ()
    )


@dataclass(frozen=True)
class Moments:
    """A reference that is known by its moments, from a long run kept as a file."""

    mean: np.ndarray
    std: np.ndarray

    def of_density(self, x: Tensor, log_q: Tensor) -> dict[str, float]:
        """Errors of a density, from draws."""
        return self.of_draws(x.flatten(1).double().numpy())

    def of_draws(self, x: np.ndarray) -> dict[str, float]:
        """Errors of draws, (n, D)."""
        return {
            "mean_error_posterior_std": mean_error(x.mean(0), self.mean, self.std),
            "std_error": std_error(x.std(0), self.std),
        }

    def enough(self) -> int:
        """Draws that a density is judged by."""
        return DRAWS


@dataclass(frozen=True)
class LeagueProblem:
    """A problem, its observation (1, *data), its judge, and the flow that methods train on it."""

    name: str
    seed: int
    problem: Problem
    y: Tensor
    judge: Any
    flow: dict[str, Any]

    @property
    def size(self) -> int:
        """Parameters."""
        return math.prod(self.problem.model_shape)

    @property
    def few(self) -> bool:
        """Whether a flow stands alone, without an affine layer below."""
        return self.size <= FEW


@lru_cache
def floor_of(name: str) -> tuple[float, float] | None:
    """What an exact posterior would be judged at, errors of mean and of standard deviations: those
    of the kept reference, half of what its two halves differ by, and of the judging draws. None
    where the reference is not such a file.
    """
    if not PROBLEMS[name].file:
        return None
    kept = np.load(HERE / "references" / f"{PROBLEMS[name].file}.npz")
    judging = math.sqrt(2 / (math.pi * DRAWS)), math.sqrt(1 / (math.pi * DRAWS))
    halves = (np.ptp(kept[key], axis=0) / kept["std"] / 2 for key in ("half_mean", "half_std"))
    mean, std = (math.hypot(float(h.mean()), j) for h, j in zip(halves, judging, strict=True))
    return mean, std


@lru_cache(maxsize=4)
def league_problem(name: str, seed: int) -> LeagueProblem:
    """The problem `name` with operator and observation of `seed`."""
    setting = PROBLEMS[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    if setting.file:
        kept = np.load(HERE / "references" / f"{setting.file}.npz")
        settings = {**json.loads(str(kept["settings"])), **setting.changes}
        problem = build_problem(**settings)
        y = torch.from_numpy(kept["y"]).float().reshape(1, *problem.data_shape)
        judge = Moments(kept["mean"].flatten(), kept["std"].flatten())
    else:
        judge = posterior(name, seed, CACHE)
        problem, y = judge.problem, judge.y
    few = math.prod(problem.model_shape) <= FEW
    flow = {"name": "coupling", "depth": 8 if few else 6, "hidden": setting.hidden}
    return LeagueProblem(name, seed, problem, y, judge, flow)
