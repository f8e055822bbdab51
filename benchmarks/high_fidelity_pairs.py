"""A few hundred high-fidelity pairs and no likelihood: continue from a flow that learnt from
low-fidelity pairs, or begin from random weights, on the same pairs.

    python benchmarks/high_fidelity_pairs.py            # 20 minutes on one core
    python benchmarks/high_fidelity_pairs.py --table    # the table of docs/methods.md, from the csv

Of n pairs four fifths train and a fifth stops the training; both starts get two step sizes, and the
validation loss chooses. Judged on 2000 further high-fidelity pairs, and against the exact posterior
on 100 of them. Rows that are in benchmarks/results/high_fidelity_pairs.csv are not run again.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import math
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from pflow.data.pair_stream import TensorPairs
from pflow.diagnostics.moments import mean_error
from pflow.diagnostics.pair_ranks import calibration_numbers
from pflow.execution.parallel import SingleProcess
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.objectives.maximum_likelihood import MaximumLikelihood, mean_negative_log_likelihood
from pflow.problems import build_problem
from pflow.problems.base import Problem
from pflow.stages.calibrate import pair_ranks
from pflow.stages.pretrain import ValidationMonitor
from pflow.storage.checkpoint import Checkpoint
from pflow.training import Optimiser, TrainingState, train

RESULTS = Path(__file__).parent / "results" / "high_fidelity_pairs.csv"
# problem: its settings, its flow, and low-fidelity pairs
CASES: dict[str, tuple[str, dict[str, Any], dict[str, int], int]] = {
    "rosenbrock": ("rosenbrock", {}, {"depth": 8, "hidden": 64}, 10000),
    "gaussian-64": ("gaussian", {"side": 8}, {"depth": 6, "hidden": 128}, 20000),
}
PAIRS, SEEDS, STEP_SIZES = (50, 100, 200, 400), (0, 1, 2), (1e-3, 3e-4)
HELD_OUT, EXACT, CALIBRATED, DRAWS = 2000, 100, 300, 100
COLUMNS = (
    "problem",
    "seed",
    "pairs",
    "start",
    "step_size",
    "validation_nats",
    "held_out_nats",
    "kl_forward_nats",
    "mean_error_posterior_std",
    "sbc_p_value",
    "coverage_90",
    "best_epoch",
    "seconds",
)
SHOWN = ("kl_forward_nats", "mean_error_posterior_std", "coverage_90")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the table, run nothing")
    parser.add_argument("--problems", nargs="+", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        print(table(read()))
        return
    for problem in arguments.problems:
        for seed in SEEDS:
            run(problem, seed)


def run(name: str, seed: int) -> None:
    """All rows of one seed that are missing: its pretraining, and each number of pairs."""
    known = {key_of(row) for row in read()}
    wanted = [(0, "pretrained", 0.0)] + [
        (n, start, step) for n in PAIRS for start in ("pretrained", "random") for step in STEP_SIZES
    ]
    problem = problem_of(name)
    for n, start, step in wanted:
        if (name, seed, n, start, step) in known:
            continue
        began = time.monotonic()
        flow, state = trained(name, seed, n, start, step)
        row = {
            "problem": name,
            "seed": seed,
            "pairs": n,
            "start": start,
            "step_size": step,
            "validation_nats": math.nan if state is None else state.best_value,
            "best_epoch": "" if state is None else best_epoch(state),
            "seconds": round(time.monotonic() - began, 1),
            **judged(problem, flow, seed),
        }
        append(row)
        print({key: row[key] for key in ("problem", "seed", "pairs", "start", "step_size", *SHOWN)})


@cache
def problem_of(name: str) -> Problem:
    """The problem of a case."""
    kind, settings, *_ = CASES[name]
    return build_problem(kind, **settings)


def trained(
    name: str, seed: int, n: int, start: str, step_size: float
) -> tuple[Flow, TrainingState | None]:
    """A flow that has learnt from n high-fidelity pairs; with none, the pretrained one."""
    if n == 0:
        return pretrained(name, seed), None
    x, y = problem_of(name).simulate(n, generator_for(seed, "high", n), fidelity="high")
    cut = n * 4 // 5
    learnt, held_out = TensorPairs(x[:cut], y[:cut]), TensorPairs(x[cut:], y[cut:])
    if start == "pretrained":
        flow = copy.deepcopy(pretrained(name, seed))
    else:
        flow = random_flow(name, seed)
        flow.initialise(x[:cut], y[:cut])
    objective = MaximumLikelihood(learnt, 32, 300)
    return flow, fitted(flow, objective, held_out, Optimiser(step_size, clip=10.0), seed, 20)


@cache
def pretrained(name: str, seed: int) -> Flow:
    """A flow that has learnt from low-fidelity pairs."""
    pairs = CASES[name][3]
    x, y = problem_of(name).simulate(pairs + 1000, generator_for(seed, "low"))
    flow = random_flow(name, seed)
    flow.initialise(x[:1024], y[:1024])
    objective = MaximumLikelihood(TensorPairs(x[:pairs], y[:pairs]), 64, 20)
    optimiser = Optimiser(1e-3, schedule="cosine", clip=10.0)
    fitted(flow, objective, TensorPairs(x[pairs:], y[pairs:]), optimiser, seed, 10)
    return flow


def random_flow(name: str, seed: int) -> Flow:
    """Random weights."""
    problem = problem_of(name)
    torch.manual_seed(seed)
    return build_flow("coupling", problem.model_shape, problem.summary_shape, **CASES[name][2])


def fitted(
    flow: Flow,
    objective: MaximumLikelihood,
    held_out: TensorPairs,
    optimiser: Optimiser,
    seed: int,
    patience: int,
) -> TrainingState:
    """Train `flow` in place, as the stage `pretrain` does."""
    with tempfile.TemporaryDirectory() as folder:
        return train(
            flow,
            objective,
            optimiser,
            generator=generator_for(seed, "order"),
            monitor=ValidationMonitor(held_out, patience, SingleProcess()),
            checkpoint=Checkpoint(Path(folder) / "state", "benchmark"),
            progress=Progress("train", io.StringIO()),
            describe=lambda: {"epoch": objective.epoch},
        )


def best_epoch(state: TrainingState) -> int:
    """The epoch of the lowest validation loss."""
    rows = [row for row in state.rows if "validation_loss" in row]
    return int(min(rows, key=lambda row: row["validation_loss"])["epoch"])


@torch.no_grad()
def judged(problem: Problem, flow: Flow, seed: int) -> dict[str, float]:
    """How far the flow is from the posteriors of held-out high-fidelity pairs."""
    x, y = problem.simulate(HELD_OUT, generator_for(seed, "held-out"), fidelity="high")
    log_q = flow.log_prob(x[:EXACT], y[:EXACT]).double()
    divergences, errors = [], []
    for k in range(EXACT):
        exact = problem.exact_posterior(y[k : k + 1].double())
        assert exact is not None, "the problems of this benchmark have one"
        divergences.append(float(exact.log_density(x[k : k + 1].double())) - float(log_q[k]))
        draws = flow.sample(y[k : k + 1], 1000, generator_for(k, "draws")).double().numpy()
        errors.append(mean_error(draws.mean(0), exact.mean.numpy(), exact.std.numpy()))
    names = problem.parameter_names
    rank, _ = pair_ranks(flow, x[:CALIBRATED], y[:CALIBRATED], DRAWS, 16, seed, names)
    calibration = calibration_numbers(rank, DRAWS, np.random.default_rng(seed))
    return {
        "held_out_nats": mean_negative_log_likelihood(flow, TensorPairs(x, y)),
        "kl_forward_nats": float(np.mean(divergences)),
        "mean_error_posterior_std": float(np.mean(errors)),
        "sbc_p_value": calibration["sbc_p_value"],
        "coverage_90": calibration["coverage_90"],
    }


def key_of(row: dict[str, str]) -> tuple[str, int, int, str, float]:
    """What makes a row one of its kind."""
    return (
        row["problem"],
        int(row["seed"]),
        int(row["pairs"]),
        row["start"],
        float(row["step_size"]),
    )


def read() -> list[dict[str, str]]:
    """All rows."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def append(row: dict[str, Any]) -> None:
    """One more row."""
    there = RESULTS.is_file()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not there:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def table(rows: list[dict[str, str]]) -> str:
    """Medians over seeds; of each seed the step size with the lower validation loss."""
    lines = [
        "| problem | pairs | from low fidelity: KL, mean error, coverage of 90 % |"
        " from random weights | held-out nats of the two |",
        "|---|---|---|---|---|",
    ]
    for problem in CASES:
        for n in (0, *PAIRS):
            cells = [_cell(rows, problem, n, start) for start in ("pretrained", "random")]
            nats = [
                _medians(rows, problem, n, start, ("held_out_nats",))
                for start in ("pretrained", "random")
            ]
            shown = ", ".join(f"{one[0]:.2f}" for one in nats if one)
            lines.append(f"| {problem} | {n} | {cells[0]} | {cells[1]} | {shown} |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, str]], problem: str, n: int, start: str) -> str:
    found = _medians(rows, problem, n, start, (*SHOWN, "sbc_p_value"))
    if not found:
        return "-"
    kl, error, coverage, p_value = found
    return f"{kl:.2g}, {error:.2f}, {coverage:.2f}" + ("" if p_value >= 0.01 else " (p < .01)")


def _medians(
    rows: list[dict[str, str]], problem: str, n: int, start: str, columns: tuple[str, ...]
) -> list[float]:
    chosen: dict[str, dict[str, str]] = {}
    for row in rows:
        if (row["problem"], int(row["pairs"]), row["start"]) != (problem, n, start):
            continue
        best = chosen.setdefault(row["seed"], row)
        if float(row["validation_nats"]) < float(best["validation_nats"]):
            chosen[row["seed"]] = row
    if not chosen:
        return []
    return [median(float(row[column]) for row in chosen.values()) for column in columns]


if __name__ == "__main__":
    main()
