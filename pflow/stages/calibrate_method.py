r"""calibrate_method: calibration of the posteriors of a fine-tuning method over simulated
observations.

Replicate observations y_k = F(x_k) + eps with x_k from the prior; the method is fine-tuned on each
as on the real one, with its whole budget. If its posteriors are exact, x_k is an ordinary draw of
q_k, and the ranks are uniform: simulation-based calibration of the method. Each replicate is a
complete run, which makes the test valid and expensive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.config.jobs import CalibrateJobSettings
from pflow.diagnostics.pair_ranks import (
    JOINT,
    calibration_numbers,
    evenly_spread,
    other_truths,
    rank_columns,
)
from pflow.execution.device import select_device
from pflow.execution.seeds import generator_for
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.stages.io.weights import load_flow
from pflow.storage.store import read_arrays
from pflow.storage.text_files import write_json

__all__ = ["calibrate_method"]


@torch.no_grad()
def calibrate_method(
    settings: CalibrateJobSettings,
    record: dict[str, Any],
    *,
    flows: list[Path],
    observations: list[Path],
    out: Path,
    threads: int = 1,
) -> None:
    """Write the numbers and every rank of a method as JSON."""
    select_device("cpu", threads)
    problem, choice = problem_from(settings.problem), settings.calibrate
    generator, random = (
        generator_for(choice.seed, "calibrate_method"),
        np.random.default_rng(choice.seed),
    )
    draws, truths, log_q, log_q_of_truth = [], [], [], []
    for weights, observation in zip(flows, observations, strict=True):
        network, _ = load_flow(weights, torch.device("cpu"))
        summary = problem.summary(read_observation(observation, problem))
        truth = torch.from_numpy(read_arrays(observation, ("x_true",))[0]["x_true"])[None]
        x, density = network.sample_with_log_prob(summary, choice.draws, generator)
        draws.append(x.flatten(1).double().numpy())
        truths.append(truth.flatten().double().numpy())
        log_q.append(density.double().numpy())
        log_q_of_truth.append(float(network.log_prob(truth, summary)))
    cloud, true_models = np.stack(draws), np.stack(truths)
    spread = np.maximum(true_models.std(0), 1e-12)
    chosen = evenly_spread(true_models.shape[1], choice.unknowns)
    columns = rank_columns(
        cloud / spread,
        true_models / spread,
        np.stack(log_q),
        np.array(log_q_of_truth),
        other_truths(true_models / spread, random),
        chosen,
        random,
    )
    numbers = {
        "replicates": len(flows),
        "draws": choice.draws,
        **calibration_numbers(columns, choice.draws, random),
    }
    quantities = [problem.parameter_names[i] for i in chosen] + list(JOINT)
    ranks = {name: column.tolist() for name, column in zip(quantities, columns.T, strict=True)}
    origin = {name: record[name] for name in ("settings_hash", "code_version")}
    write_json(out, {"method": settings.name, "numbers": numbers, "ranks": ranks, **origin})
