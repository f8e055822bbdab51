"""check_operator: tests of the high-fidelity operator and of the prior before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.config.jobs import CheckOperatorJobSettings
from pflow.execution.device import select_device
from pflow.execution.seeds import generator_for
from pflow.operators.checks import check_operator as run_checks
from pflow.operators.cost import measure_cost
from pflow.problems.base import Problem
from pflow.problems.prior_check import check_prior
from pflow.stages.io.inputs import problem_from
from pflow.storage.text_files import write_json

__all__ = ["check_operator"]

# Batches at which the cost is measured; the stages compute gradients of at most 64 models at a
# time, and so do methods by default.
BATCHES = (1, 8, 64)


def check_operator(
    settings: CheckOperatorJobSettings, record: dict[str, Any], *, out: Path, threads: int = 1
) -> None:
    """Write the results and the measured cost of F; a failed check raises PflowError and writes
    nothing.
    """
    select_device("cpu", threads)
    problem = problem_from(settings.problem)
    generator = generator_for(0, "check_operator")
    x = problem.sample_prior(8, generator)
    results = run_checks(problem.high_fidelity, x, generator, BATCHES)
    results |= check_prior(problem, generator_for(0, "check_prior"))
    results |= _cost_of_low_fidelity(problem, x)
    write_json(out, {**results, "provenance": record})


def _cost_of_low_fidelity(problem: Problem, x: torch.Tensor) -> dict[str, float | None]:
    """Seconds of one F_low with its gradient, as a model of F asks for it; nothing where it is
    linear, which takes a few calls, or has no gradient.
    """
    operator = problem.low_fidelity
    if operator.linear or not operator.differentiable:
        return {}
    v = torch.ones(len(x), *operator.data_shape, dtype=x.dtype)
    cost = measure_cost(operator, x, v, BATCHES[-1:])
    return {
        "low_fidelity_seconds_per_gradient": min(c["seconds_per_gradient"] for c in cost["costs"])
    }
