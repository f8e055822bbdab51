"""calibrate: calibration of a pretrained flow over held-out pairs, and tests of it near each
observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.config.jobs import CalibrateJobSettings
from pflow.diagnostics.local import local_c2st_p_values
from pflow.diagnostics.novelty import novelty_p_values
from pflow.diagnostics.pair_ranks import (
    JOINT,
    calibration_numbers,
    evenly_spread,
    other_truths,
    rank_columns,
)
from pflow.errors import PflowError
from pflow.execution.device import select_device
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.flows.base import Flow, standard_normal_log_density
from pflow.problems.base import Problem
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.stages.io.weights import load_flow
from pflow.storage.layout import PretrainedFolder, whole
from pflow.storage.store import read_pairs, write_arrays
from pflow.storage.text_files import write_json

__all__ = ["calibrate", "pair_ranks"]

ELEMENTS = 2**20  # of x in one batch of draws
TRAINING = 5000  # training data that define the distances of the out-of-distribution check


@torch.no_grad()
def calibrate(
    settings: CalibrateJobSettings,
    record: dict[str, Any],
    *,
    flow: Path,
    train_shards: list[Path],
    test_shards: list[Path],
    observations: list[Path],
    out: Path,
    threads: int = 1,
) -> None:
    """Write calibration.json (numbers, and p-values of each observation) and calibration.zarr
    (ranks) beside it.
    """
    select_device("cpu", threads)
    problem, choice = problem_from(settings.problem), settings.calibrate
    network, _ = load_flow(flow, torch.device("cpu"))
    x, y = _pairs(test_shards, problem)
    data = _pairs(train_shards, problem)[1][:TRAINING]
    if len(x) < 50:
        raise PflowError(
            f"calibration needs at least 50 held-out pairs, and there are {len(x)}: raise"
            f" experiments.{settings.experiment}.simulate.test"
        )
    pairs = min(choice.pairs, len(x))
    progress = Progress(f"calibrate {settings.experiment}/{settings.name}")
    rank, quantities = pair_ranks(
        network,
        x[:pairs],
        y[:pairs],
        choice.draws,
        choice.unknowns,
        choice.seed,
        problem.parameter_names,
        progress,
    )
    numbers = {
        "pairs": pairs,
        "draws": choice.draws,
        **calibration_numbers(rank, choice.draws, np.random.default_rng(choice.seed)),
    }
    z, log_determinant = network(x[:pairs], y[:pairs])
    log_q = standard_normal_log_density(z) + log_determinant
    numbers["held_out_nats"] = -float(log_q.double().mean())
    latent = z.numpy()
    names = [whole(path).stem for path in observations]
    observed = [
        network.condition(problem.summary(read_observation(path, problem)))[0].numpy()
        for path in observations
    ]
    held_out, training = (network.condition(part).numpy() for part in (y, data))
    novel = novelty_p_values(observed, training, held_out)
    local = local_c2st_p_values(latent, held_out[:pairs], observed, seed=choice.seed)
    at = {
        name: {"ood_p_value": unlike, "local_c2st_p_value": p}
        for name, unlike, p in zip(names, novel, local, strict=True)
    }
    write_arrays(
        PretrainedFolder(out.parent).ranks,
        {"ranks": rank},
        {"quantities": quantities, "draws": choice.draws, **_origin(record)},
        first="pair",
    )
    write_json(out, {"flow": settings.name, **numbers, "observations": at, **_origin(record)})
    progress.close(
        f"{pairs} pairs, {numbers['held_out_nats']:.4g} nats,"
        f" SBC p {numbers['sbc_p_value']:.2g}, TARP p {numbers['tarp_p_value']:.2g},"
        f" 90 % coverage {numbers['coverage_90']:.3f}"
    )


@torch.no_grad()
def pair_ranks(
    network: Flow,
    x: torch.Tensor,
    y: torch.Tensor,
    draws: int,
    unknowns: int,
    seed: int,
    names: tuple[str, ...],
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Ranks of the truth of each pair among draws of the flow, (pairs, quantities), and the names
    of the quantities.

    The quantities are parameters (evenly spaced, at most `unknowns`), log q and the distance of
    TARP.
    """
    size = x[0].numel()
    chosen = evenly_spread(size, unknowns)
    random, generator = np.random.default_rng(seed), generator_for(seed, "calibrate")
    truths = x.flatten(1).double().numpy()
    spread = x.flatten(1).double().std(0).clamp_min(1e-12).numpy()
    references = other_truths(truths, random) / spread
    columns = []
    for part in _parts(len(x), max(1, ELEMENTS // (size * draws))):
        many = y[part].repeat_interleave(draws, 0)
        sampled, log_q = network.sample_with_log_prob(many, len(many), generator)
        cloud = sampled.flatten(1).double().numpy().reshape(-1, draws, size) / spread
        log_q_of_truth = network.log_prob(x[part], y[part]).numpy()
        columns.append(
            rank_columns(
                cloud,
                truths[part] / spread,
                log_q.numpy().reshape(-1, draws),
                log_q_of_truth,
                references[part],
                chosen,
                random,
            )
        )
        if progress:
            progress.update(part.stop / len(x))
    return np.concatenate(columns), [names[i] for i in chosen] + list(JOINT)


def _pairs(shards: list[Path], problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Models, and the summaries of their data that condition the flow."""
    x, y = (torch.from_numpy(a) for a in read_pairs(shards))
    return x, problem.summary(y)


def _parts(total: int, size: int) -> Iterator[slice]:
    for first in range(0, total, size):
        yield slice(first, min(total, first + size))


def _origin(record: dict[str, Any]) -> dict[str, str]:
    return {name: record[name] for name in ("settings_hash", "code_version")}
