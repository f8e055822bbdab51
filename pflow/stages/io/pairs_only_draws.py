"""Draws of an amortised posterior without an operator: log q, and nothing that needs F."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.config.jobs import SampleJobSettings
from pflow.execution.device import describe_device
from pflow.execution.seeds import generator_for
from pflow.flows.base import Flow
from pflow.problems.base import Problem
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree

__all__ = ["sample_without_operator"]

BATCH = 4096


@torch.no_grad()
def sample_without_operator(
    settings: SampleJobSettings,
    record: dict[str, Any],
    problem: Problem,
    network: Flow,
    y: torch.Tensor,
    trained: dict[str, Any],
    out: Path,
) -> None:
    """Write posterior.zarr with `posterior`, `sample_stats/log_q` and `observed_data`; there are no
    weights and no predictions.
    """
    generator = generator_for(settings.seed, "sample", settings.observation, settings.method)
    summary, total = problem.summary(y), settings.sample.draws
    parts = [
        network.sample_with_log_prob(summary, min(BATCH, total - first), generator)
        for first in range(0, total, BATCH)
    ]
    x, log_q = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    names, units = problem.parameter_names, {"x": problem.model_unit, "y": problem.data_unit}
    groups = {
        "posterior": draws_dataset({"x": x}, names, units),
        "sample_stats": draws_dataset({"log_q": log_q}),
        "observed_data": point_dataset({"y": y[0].cpu().numpy()}, units=units),
    }
    attributes = {
        "experiment": settings.experiment,
        "observation": settings.observation,
        "method": settings.method,
        "seed": settings.seed,
        "evaluations": trained["evaluations"],
        "sampling_evaluations": 0,
        "sampling_forwards": 0,
        "device": describe_device(y.device),
        "settings_hash": record["settings_hash"],
        "code_version": record["code_version"],
    }
    write_datatree(out, groups, attributes)
