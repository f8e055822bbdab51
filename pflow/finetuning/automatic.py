"""`objective: auto`: a model of F, unless path gradients reach the same accuracy sooner on this
machine and the budget is large enough for them.

Seconds of a run of n evaluations, with F those of one evaluation and t those of one operator-free
step:

    surrogate         n (F + f) + T t         f: fits of the model of F; T: steps of the flow
    score replay      n F + rounds inner t    instead of the surrogate beyond 4096 parameters, for
                                              random subsets of sources and for very large data
    path gradients    50 n (F + t / batch)    they take some 50 times more evaluations for the same
                      accuracy (docs/methods.md), and below 2000 evaluations they have learnt little

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
from dataclasses import dataclass
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
from pflow.objectives.linear.operator_range import why_range_too_large
from pflow.objectives.replay.rounds import rounds_of
from pflow.objectives.surrogate.coordinates import DENSE as MOST_PARAMETERS
from pflow.objectives.surrogate.memory import why_too_large
from pflow.objectives.surrogate.objective import steps_of

__all__ = ["Choice", "resolve", "step_seconds"]

EVALUATIONS_SAVED = 50
FEWEST_FOR_PATHS = 2000  # evaluations below which path gradients are not considered
# A model of F asks F_low about this often, if F_low is nonlinear. It takes part while that takes no
# longer than the evaluations of F themselves, or than this many seconds.
LOW_FIDELITY_CALLS, LOW_FIDELITY_SECONDS = 500_000, 900.0
FIT_SECONDS = 0.05  # of the model of F, for each evaluation (docs/methods.md)
REPEATS = 5


@dataclass(frozen=True)
class Choice:
    """The method to train, and the seconds that it is predicted to take; None where nothing was
    predicted.
    """

    method: MethodSettings
    predicted_seconds: float | None = None


def resolve(
    method: MethodSettings,
    operator: Mapping[str, Any] | None,
    measure: Callable[[], float],
    file: Path | None = None,
    *,
    parameters: int,
    data: int = 1,
    linear: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Choice:
    """`auto` becomes the method that is faster for the measured cost of F, or the only one that
    needs no gradient of it; others stay.

    Arguments:
        method: as configured.
        operator: what operator.json says: `differentiable` and `seconds_per_gradient`.
        measure: seconds of one operator-free step; asked only where no choice is on file.
        file: where the choice is kept.
        parameters: D, the size of a model.
        data: m, the size of an observation.
        linear: whether a model of F is that of a linear operator (`learns_linear`).
        say: takes the choice and the seconds that it follows from, in words.

    Raises:
        PflowError: the cost of F was not measured.
    """
    if not isinstance(method, AutoSettings):
        return Choice(method)
    choice = _choose(method, operator, measure, file, parameters, data, linear, say)
    unmeasured = "shift"
    if isinstance(choice.method, SurrogateSettings):
        unmeasured = "elbo_change"
    if getattr(method, f"target_{unmeasured}") is not None:
        say(f"{choice.method.tag_value} cannot measure target_{unmeasured}, which stops nothing")
    return choice


def _choose(
    method: AutoSettings,
    operator: Mapping[str, Any] | None,
    measure: Callable[[], float],
    file: Path | None,
    parameters: int,
    data: int,
    linear: bool,
    say: Callable[[str], None],
) -> Choice:
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
    surrogate = SurrogateSettings(
        **shared,
        low_fidelity=_low_fidelity_pays(method, operator, say),
        target_shift=method.target_shift,
    )
    no_model = _why_no_model(method, parameters, data, linear)
    if no_model:
        say(f"no model of F: {no_model}")
    if not operator["differentiable"]:
        return Choice(_without_gradient(method, surrogate, no_model, shared, say))
    paths = ReverseKLSettings(**shared, sources=method.sources)
    learning: SurrogateSettings | ScoreReplaySettings = surrogate
    if no_model:
        learning = ScoreReplaySettings(**shared, sources=method.sources)
    basis = {
        "machine": platform.node(),
        "seconds_per_evaluation": operator["seconds_per_gradient"],
        "evaluations": method.evaluations,
    }
    choice = _read(file, basis)
    if choice is None:
        choice = _keep(file, basis, basis | _compare(learning, paths, basis, parameters, measure()))
    chosen = paths if choice["objective"] == paths.tag_value else learning
    rival = f"{choice['seconds_with_paths']:.3g} s until path gradients are as accurate"
    if method.evaluations < FEWEST_FOR_PATHS:
        rival = f"path gradients need a budget of {FEWEST_FOR_PATHS} evaluations or more"
    say(
        f"objective auto takes {chosen.tag_value}: about {choice['seconds_learning']:.3g} s with"
        f" {learning.tag_value}, {rival} (F takes {choice['seconds_per_evaluation']:.2g} s)"
    )
    seconds = choice["seconds_learning"]
    if chosen is paths:  # of this budget, not until the same accuracy
        seconds = choice["seconds_with_paths"] / EVALUATIONS_SAVED
    return Choice(chosen, seconds)


def _why_no_model(method: AutoSettings, parameters: int, data: int, linear: bool) -> str:
    """Why `surrogate` cannot be taken; empty where it can."""
    if method.sources:
        return (
            f"a point with {method.sources} random `sources` does not tell all data, which it is"
            " learnt from"
        )
    if linear:
        return why_range_too_large(method.evaluations, parameters, data, method.memory_gb)
    if parameters > MOST_PARAMETERS:
        return f"{parameters} parameters are more than {MOST_PARAMETERS}"
    return why_too_large(method.evaluations, parameters, data, method.memory_gb)


def _without_gradient(
    method: AutoSettings,
    surrogate: SurrogateSettings,
    no_model: str,
    shared: Mapping[str, Any],
    say: Callable[[str], None],
) -> MethodSettings:
    """What learns from values alone."""
    if method.sources:
        raise PflowError(
            f"`sources` (={method.sources}) needs the gradient of F, which has none: remove"
            " `sources`, and a model of F is learnt from values of all of them"
        )
    if no_model:
        say("objective auto takes importance: F has no gradient")
        draw = min(ImportanceSettings.draw, method.evaluations)
        return ImportanceSettings(**shared, draw=draw)
    say("objective auto takes surrogate, which learns from values alone: F has no gradient")
    return surrogate


def _low_fidelity_pays(
    method: AutoSettings, operator: Mapping[str, Any], say: Callable[[str], None]
) -> bool:
    """Whether F_low is cheap enough to be part of the model of F."""
    seconds = operator.get("low_fidelity_seconds_per_gradient") or 0.0
    high = operator["seconds_per_gradient"] or operator.get("seconds_per_forward") or 0.0
    if seconds * LOW_FIDELITY_CALLS <= max(LOW_FIDELITY_SECONDS, method.evaluations * high):
        return True
    say(
        f"the low-fidelity F takes {seconds:.2g} s, and a model of F on top of it would ask it some"
        f" {LOW_FIDELITY_CALLS} times: the model is learnt from evaluations of F alone"
    )
    return False


def _compare(
    learning: SurrogateSettings | ScoreReplaySettings,
    paths: ReverseKLSettings,
    basis: Mapping[str, Any],
    parameters: int,
    step: float,
) -> dict[str, Any]:
    """The objective to take, and the seconds of both, from those of one step."""
    count, operator = learning.evaluations, basis["seconds_per_evaluation"]
    with_learning = count * operator + _free_seconds(learning, parameters, step)
    with_paths = EVALUATIONS_SAVED * count * (operator + step / paths.batch)
    better = with_paths < with_learning and count >= FEWEST_FOR_PATHS
    return {
        "seconds_per_step": step,
        "seconds_learning": with_learning,
        "seconds_with_paths": with_paths,
        "objective": (paths if better else learning).tag_value,
    }


def _free_seconds(
    method: SurrogateSettings | ScoreReplaySettings, parameters: int, step: float
) -> float:
    """Operator-free seconds of a run, from those of one step."""
    if isinstance(method, SurrogateSettings):
        return FIT_SECONDS * method.evaluations + step * steps_of(method.evaluations, parameters)
    return step * method.inner * rounds_of(method.evaluations)


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
    if file is None:
        return None
    try:
        choice = json.loads(file.read_text(encoding="utf-8"))
        complete = choice.items() >= basis.items() and "seconds_with_paths" in choice
        return choice if complete else None
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
