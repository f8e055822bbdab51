"""Inputs of several stages: the problem of their settings, the observation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pflow.config.problems import ProblemSettings
from pflow.config.session_problem import SessionProblemSettings
from pflow.config.umbridge import UMBridgeProblemSettings
from pflow.config.user_problems import PairsOnlyProblemSettings, UserProblemSettings
from pflow.errors import PflowError
from pflow.problems import build_problem
from pflow.problems.base import Problem
from pflow.problems.data_only import DataOnly
from pflow.problems.session import session_problem
from pflow.problems.user_module import load_problem
from pflow.stages.io.umbridge import UMBridgeProblem
from pflow.storage.store import read_arrays

__all__ = ["problem_from", "read_observation"]


def problem_from(settings: ProblemSettings) -> Problem:
    """The problem that `settings` describes."""
    if isinstance(settings, UserProblemSettings):
        return load_problem(settings.module, settings.name, settings.settings)
    if isinstance(settings, UMBridgeProblemSettings):
        return UMBridgeProblem(settings)
    if isinstance(settings, SessionProblemSettings):
        return session_problem(settings.session)
    if isinstance(settings, PairsOnlyProblemSettings):
        return DataOnly(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)})
    return build_problem(settings.tag_value, **settings.settings)


def read_observation(path: Path, problem: Problem) -> torch.Tensor:
    """y_obs as a batch of one, (1, *data).

    Raises:
        PflowError: the store is damaged, or its shape is not the problem's.
    """
    y = read_arrays(path, ("y",))[0]["y"]
    if y.shape != tuple(problem.data_shape):
        raise PflowError(
            f"{path} has the shape {y.shape}, and the problem's data have"
            f" {tuple(problem.data_shape)}: delete it and run snakemake again"
        )
    return torch.from_numpy(y)[None]
