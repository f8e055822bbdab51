"""sample: draws of one posterior, each with its density, its importance weight and its prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.arviz_schema import draws_dataset, point_dataset
from pflow.device import describe_device, select_device
from pflow.seeds import generator_for
from pflow.stage_settings import SampleSettings
from pflow.stages.inputs import problem_from, read_observation
from pflow.stages.weights import load_flow
from pflow.store import read_arrays, read_json, write_datatree
from pflow.target import Target

__all__ = ["sample"]

BATCH = 4096


@torch.no_grad()
def sample(settings: SampleSettings, record: dict[str, Any], *, flow: Path, observation: Path, out: Path, threads: int = 1) -> None:
    """Write posterior.zarr: x, log_q, lp = log p~(x), log_weight = lp - log_q, and predictions F(x) + noise."""
    device = select_device(settings.device, threads)
    problem = problem_from(settings.problem)
    y = read_observation(observation, problem).to(device)
    network, _ = load_flow(flow, device)
    target = Target(problem, y)
    generator = generator_for(settings.seed, "sample", settings.observation, settings.method)
    parts: dict[str, list[torch.Tensor]] = {"x": [], "y": [], "lp": [], "log_q": []}
    for first in range(0, settings.draws, BATCH):
        x, log_q = network.sample_with_log_prob(y, min(BATCH, settings.draws - first), generator)
        prediction, log_density = target.predict(x)
        noise = problem.noise_std * torch.randn(prediction.shape, generator=generator)
        values = {"x": x, "y": prediction.cpu() + noise, "lp": log_density, "log_q": log_q}
        for name, value in values.items():
            parts[name].append(value.cpu())
    arrays = {name: torch.cat(values).numpy() for name, values in parts.items()}
    fixed = read_arrays(observation, ("y",), optional=("x_true",))[0]
    names = problem.parameter_names
    groups = {
        "posterior": draws_dataset({"x": arrays["x"]}, names),
        "sample_stats": draws_dataset({"lp": arrays["lp"], "log_q": arrays["log_q"], "log_weight": arrays["lp"] - arrays["log_q"]}),
        "posterior_predictive": draws_dataset({"y": arrays["y"]}),
        "observed_data": point_dataset({"y": fixed["y"]}),
    }
    if "x_true" in fixed:
        groups["constant_data"] = point_dataset({"x_true": fixed["x_true"]}, names)
    trained = read_json(flow.with_name("flow.json"))
    attributes = {
        "experiment": settings.experiment,
        "observation": settings.observation,
        "method": settings.method,
        "seed": settings.seed,
        "evaluations": trained["evaluations"],
        "sampling_forwards": target.ledger.forwards,
        "device": describe_device(device),
        "settings_hash": record["settings_hash"],
        "code_version": record["code_version"],
    }
    write_datatree(out, groups, attributes)
