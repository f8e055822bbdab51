"""`objective: auto`: a model of F or path gradients, whichever reaches the same accuracy sooner on
this machine; values alone where F has no gradient.

    surrogate         seconds per evaluation  F + f + t T / n       t: one operator-free step, of
                      which a run of n evaluations makes T; f: fits of the model of F
    score replay      seconds per evaluation  F + t inner / M       instead of the surrogate up to
                      16 parameters, whose interactions it models, and beyond 4096: a round of M
                      points, on average, makes at most `inner` steps
    path gradients    seconds per evaluation  F + t / batch         and some 50 times more
                      evaluations (docs/methods.md)

F comes from operator.json, t is measured once. Timings jitter, and near the boundary the choice
could flip; so it is made once for an observation and a method, on this machine, written beside the
checkpoints, and read from there by all other seeds and later runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pflow.config.methods import (
    AutoSettings,
    FinetuningSettings,
    ImportanceSettings,
    MethodSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.objectives.replay.rounds import rounds_of
from pflow.objectives.surrogate.coordinates import DENSE as MOST_PARAMETERS
from pflow.objectives.surrogate.exploration import FEW_PARAMETERS
from pflow.objectives.surrogate.objective import steps_of

__all__ = ["resolve", "step_seconds"]

EVALUATIONS_SAVED = 50
FIT_SECONDS = 0.05  # of the model of F, for each evaluation (docs/methods.md)
REPEATS = 5


def resolve(
    method: MethodSettings,
    operator: Mapping[str, Any] | None,
    measure: Callable[[], float],
    file: Path | None = None,
    *,
    parameters: int,
) -> MethodSettings:
    """`auto` becomes the method that is faster for the measured cost of F, or the only one that
    needs no gradient of it; others stay.

    Arguments:
        method: as configured.
        operator: what operator.json says: `differentiable` and `seconds_per_gradient`.
        measure: seconds of one operator-free step; asked only where no choice is on file.
        file: where the choice is kept.
        parameters: D, the size of a model.

    Raises:
        PflowError: the cost of F was not measured.
    """
    if isinstance(method, AutoSettings):
        return _choose(method, operator, measure, file, parameters)
    return method


def _choose(
    method: AutoSettings,
    operator: Mapping[str, Any] | None,
    measure: Callable[[], float],
    file: Path | None,
    parameters: int,
) -> MethodSettings:
    """`resolve` for `auto`; builds settings with their defaults, which no other method's result
    depends on (see `CHOSEN` in pflow.provenance.code).
    """
    if operator is None:
        raise PflowError(
            "`objective: auto` needs the measured cost of F: name operator.json with --operator"
        )
    shared = {
        field.name: getattr(method, field.name) for field in dataclasses.fields(FinetuningSettings)
    }
    if not operator["differentiable"]:
        return ImportanceSettings(**shared, draw=min(ImportanceSettings.draw, method.evaluations))
    seconds_per_evaluation = operator["seconds_per_gradient"]
    paths = ReverseKLSettings(**shared)
    learning: SurrogateSettings | ScoreReplaySettings = SurrogateSettings(**shared)
    if not FEW_PARAMETERS < parameters <= MOST_PARAMETERS:
        learning = ScoreReplaySettings(**shared)
    basis = {
        "machine": platform.node(),
        "seconds_per_evaluation": seconds_per_evaluation,
        "evaluations": method.evaluations,
    }
    choice = _read(file, basis)
    if choice is None:
        step = measure()
        learning_seconds = seconds_per_evaluation + _free_seconds(learning, step)
        with_paths = EVALUATIONS_SAVED * (seconds_per_evaluation + step / paths.batch)
        chosen = learning if learning_seconds < with_paths else paths
        choice = _keep(
            file, basis, {**basis, "seconds_per_step": step, "objective": chosen.tag_value}
        )
    return learning if choice["objective"] == learning.tag_value else paths


def _free_seconds(method: SurrogateSettings | ScoreReplaySettings, step: float) -> float:
    """Operator-free seconds for each evaluation, from those of one step."""
    if isinstance(method, SurrogateSettings):
        return FIT_SECONDS + step * steps_of(method.evaluations) / method.evaluations
    return step * method.inner * rounds_of(method.evaluations) / method.evaluations


def step_seconds(flow: Flow, summary: Tensor, batch: int = 64) -> float:
    """Seconds of one operator-free step: draws, their scores under two flows, and the gradient of
    the weights. Changes nothing.
    """
    generator, seconds = torch.Generator().manual_seed(0), []
    parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        x = flow.sample(summary, batch, generator)
        for _ in range(2):
            points = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(flow.log_prob(points, summary).sum(), points)
        torch.autograd.grad((score * x).sum(), parameters, allow_unused=True)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])  # the first one warms up


def _read(file: Path | None, basis: dict) -> dict | None:
    try:
        choice = json.loads(file.read_text(encoding="utf-8"))
        return choice if choice.items() >= basis.items() else None
    except (AttributeError, OSError, ValueError):
        return None


def _keep(file: Path | None, basis: dict, choice: dict) -> dict:
    """Write the choice, unless another seed was first: then its choice."""
    if file is None:
        return choice
    file.parent.mkdir(parents=True, exist_ok=True)
    if _read(file, basis) is None:
        file.unlink(missing_ok=True)
    mine = file.with_name(f".{file.name}.{os.getpid()}")
    mine.write_text(json.dumps(choice, indent=1), encoding="utf-8")
    try:
        os.link(mine, file)
    except FileExistsError:
        return _read(file, basis) or choice
    finally:
        mine.unlink()
    return choice
