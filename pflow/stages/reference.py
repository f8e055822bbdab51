"""reference: draws of the exact posterior and its evidence, for problems that have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.device import select_device
from pflow.arviz_schema import draws_dataset
from pflow.seeds import generator_for
from pflow.stage_settings import ReferenceSettings
from pflow.stages.inputs import problem_from
from pflow.store import read_arrays, write_datatree

__all__ = ["reference"]


def reference(settings: ReferenceSettings, record: dict[str, Any], *, observation: Path, out: Path, threads: int = 1) -> None:
    """Write exact draws (group `posterior`), their normalised log density, and the low-fidelity posterior beside them."""
    select_device("cpu", threads)
    problem = problem_from(settings.problem)
    y = torch.from_numpy(read_arrays(observation, ("y",))[0]["y"])[None]
    generator = generator_for(settings.reference.seed, "reference", settings.observation)
    exact = problem.exact_posterior(y, fidelity="high")
    low = problem.exact_posterior(y, fidelity="low")
    x = exact.sample(settings.reference.draws, generator)
    groups = {
        "posterior": draws_dataset({"x": x.numpy()}, problem.parameter_names),
        "sample_stats": draws_dataset({"lp": exact.log_density(x).numpy()}),
        "low_fidelity_posterior": draws_dataset({"x": low.sample(settings.reference.draws, generator).numpy()}, problem.parameter_names),
    }
    attributes = {
        "kind": "exact",
        "experiment": settings.experiment,
        "observation": settings.observation,
        "log_evidence": float(exact.log_evidence),
        "evaluations": 0,
        "settings_hash": record["settings_hash"],
        "code_version": record["code_version"],
    }
    write_datatree(out, groups, attributes)
