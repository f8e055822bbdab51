"""simulate: one shard of pairs (x, y), x from the prior and y = F(x) + noise, or cut from the
user's own pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from pflow.config.jobs import SimulateJobSettings
from pflow.data.user_pairs import cut_shard
from pflow.execution.seeds import generator_for
from pflow.problems.base import Fidelity
from pflow.stages.io.inputs import problem_from
from pflow.stages.io.simulated_data import require_finite_data
from pflow.storage.store import write_arrays

__all__ = ["simulate"]

# Whose models a simulated split has; those of other splits are held out.
MODELS_OF: dict[str, Literal["train", "validation"]] = {
    "train": "train",
    "validation": "validation",
}


def simulate(
    settings: SimulateJobSettings, record: dict[str, Any], *, out: Path, threads: int = 1
) -> None:
    """Write arrays x (pairs, *model), y (pairs, *data) and, where flows are conditioned on a
    summary of y, summary (pairs, *summary).

    The shard depends on its seed and index alone.
    """
    from pflow.execution.device import select_device

    select_device("cpu", threads)
    problem = problem_from(settings.problem)
    fidelity: Fidelity = "high" if settings.split.startswith("high_fidelity") else "low"
    if settings.source is None:
        generator = generator_for(settings.seed, "pairs", settings.split, settings.shard)
        models_of = problem.for_split(MODELS_OF.get(settings.split, "test"))
        x, y = models_of.simulate(settings.pairs, generator, fidelity=fidelity)
        require_finite_data(problem.operator(fidelity), y, "draws of the prior")
    else:
        part = settings.split.removeprefix("high_fidelity_")
        cut = cut_shard(
            settings.source, part, settings.shard, problem.model_shape, problem.data_shape
        )
        x, y = (torch.from_numpy(array) for array in cut)
    arrays, summary = {"x": x.numpy(), "y": y.numpy()}, problem.summary(y)
    if summary is not y:
        arrays["summary"] = summary.numpy()
    write_arrays(
        out,
        arrays,
        {"fidelity": fidelity, "seed": settings.seed, "shard": settings.shard},
        first="sample",
    )
