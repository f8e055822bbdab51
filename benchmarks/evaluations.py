"""Accuracy (exact KL) against evaluations of F, for every way of fine-tuning: `python benchmarks/evaluations.py [--quick]`.

Each problem has one pretraining; each method starts from it (preconditioned) or from random weights, and is measured against
the exact posterior, which costs no evaluation. Writes benchmarks/results/evaluations.csv and prints medians over seeds.
`--quick` takes fewer problem seeds and leaves out 1024 dimensions.

Not here yet: NUTS and variational peers at equal evaluations, the bimodal and the nonlinear problem.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from pflow.checkpoint import Checkpoint
from pflow.config_methods import ReverseKL, ScoreReplay
from pflow.flows import build_flow
from pflow.problems import build_problem
from pflow.progress import Progress
from pflow.seeds import generator_for
from pflow.stages.methods import objective_of
from pflow.target import Target
from pflow.training import train

SMALL = {"name": "coupling", "depth": 8, "hidden": 64}
LARGE = {"name": "coupling", "depth": 6, "hidden": 128}
PAPER_FLOW = {"name": "chint", "depth": 8, "hidden": 64}
# problem: (settings, seeds of operator and observation, flow, epochs, budgets of replay, path gradients and the paper's recipe)
PROBLEMS = {
    "rosenbrock": ({}, range(5), SMALL, 25, 256, 5120, 5120),
    "gaussian-64": ({"side": 8}, (3,), LARGE, 30, 512, 4096, 16384),
    "gaussian-1024": ({"side": 32}, (3,), {**LARGE, "hidden": 256}, 10, 2000, 2048, None),
}
COLUMNS = ("problem", "problem_seed", "seed", "method", "start", "evaluations", "kl_reverse_nats", "seconds")


class Marks:
    """Records the exact KL at 0, 16, 32, 64, ... evaluations and at the end."""

    criterion, patience = None, 0

    def __init__(self, y: torch.Tensor, exact: object, objective: object, target: Target, draws: int) -> None:
        self.y, self.exact, self.objective, self.target, self.draws = y, exact, objective, target, draws
        self.found: dict[int, tuple[float, float]] = {}
        self.began, self.spent_here = time.perf_counter(), 0.0

    def learnt(self) -> int:
        return getattr(self.objective, "learnt", self.target.ledger.evaluations)

    def mark(self, objective: object) -> int:
        return (self.learnt() // 16).bit_length()

    @torch.no_grad()
    def measure(self, flow: torch.nn.Module) -> dict[str, float]:
        began = time.perf_counter()
        x, log_q = flow.sample_with_log_prob(self.y, self.draws, torch.Generator().manual_seed(7))
        kl = float((log_q - self.exact.log_density(x)).mean())
        self.found[self.learnt()] = (kl, began - self.began - self.spent_here)
        self.spent_here += time.perf_counter() - began
        return {}


def pretrained(problem: object, flow_settings: dict, epochs: int) -> torch.nn.Module:
    """The flow after maximum likelihood on 5000 low-fidelity pairs."""
    torch.manual_seed(0)
    flow = build_flow(model_shape=problem.model_shape, data_shape=problem.data_shape, **flow_settings)
    x, y = problem.simulate(5000, generator_for(0, "pairs"))
    flow.initialise(x[:1024], y[:1024])
    adam = torch.optim.Adam(flow.parameters(), 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for epoch in range(epochs):
        for chosen in torch.randperm(5000, generator=generator_for(epoch, "order")).split(128 if x.shape[1] > 2 else 64):
            loss = -flow.log_prob_pairs(x[chosen], y[chosen]).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
            adam.step()
        schedule.step()
    return flow


def run(problem, y, exact, weights, flow_settings, method, seed) -> dict[int, tuple[float, float]]:
    """{evaluations: (KL, seconds)} of one method and seed."""
    torch.manual_seed(1000 + seed)
    flow = build_flow(model_shape=problem.model_shape, data_shape=problem.data_shape, **flow_settings)
    if method.start == "pretrained":
        flow.load_state_dict(weights)
    else:
        flow.initialise_inverse(64, y, generator_for(seed, "initialise"))
    target = Target(problem, y)
    objective, optimiser = objective_of(method, target)
    marks = Marks(y, exact, objective, target, 4000 if y.shape[1] < 1000 else 1000)
    with tempfile.TemporaryDirectory() as folder:
        train(
            flow, objective, optimiser, generator=generator_for(seed, "finetune"), monitor=marks,
            checkpoint=Checkpoint(Path(folder) / "state", "benchmark"), progress=Progress("", io.StringIO()),
        )  # fmt: skip
    return marks.found


def methods(replay: int, path: int, paper: int | None, pretrained_flow: dict):
    """(name, flow, method) of every curve."""
    for start in ("pretrained", "random"):
        yield "score_replay", pretrained_flow, ScoreReplay(flow="", start=start, evaluations=replay)
        yield "path_gradient", pretrained_flow, ReverseKL(flow="", start=start, evaluations=path, batch=16)
    if paper:
        settings = {"gradient": "total", "warmup": 0, "schedule": "exponential", "decay_steps": 192, "clip": 1e9}
        yield "seed_paper", PAPER_FLOW, ReverseKL(flow="", start="pretrained", evaluations=paper, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 problem seeds, 2 seeds, at most 64 dimensions")
    parser.add_argument("--problem", choices=PROBLEMS, help="one problem only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(2 if options.quick else 3)
    rows = []
    for name, (settings, problem_seeds, flow_settings, epochs, *budgets) in PROBLEMS.items():
        if (options.problem or name) != name or (options.quick and name == "gaussian-1024"):
            continue
        for problem_seed in list(problem_seeds)[: 2 if options.quick else None]:
            problem = build_problem(name.split("-")[0], operator_seed=problem_seed, **settings)
            generator = generator_for(problem_seed, "observation")
            x_true = torch.tensor([[2.0, 4.0]]) if name == "rosenbrock" else 1.5 * problem.sample_prior(1, generator)
            clean = problem.high_fidelity(x_true)
            y = clean + problem.noise_std * torch.randn(clean.shape, generator=generator)
            exact = problem.exact_posterior(y)
            weights: dict[str, dict] = {}
            for method_name, flow, method in methods(*budgets, flow_settings):
                if method.start == "pretrained" and flow["name"] not in weights:
                    weights[flow["name"]] = pretrained(problem, flow, epochs).state_dict()
                for seed in seeds:
                    found = run(problem, y, exact, weights.get(flow["name"]), flow, method, seed)
                    rows += [(name, problem_seed, seed, method_name, method.start, n, kl, s) for n, (kl, s) in found.items()]
                    write(rows)
                    n, (kl, s) = max(found.items())
                    print(f"{name} {problem_seed}  {method_name:14s} {method.start:10s} seed {seed}: KL {kl:.4g} nats after {n} evaluations, {s:.0f} s", flush=True)
    table(rows)


def write(rows: list[tuple]) -> None:
    """benchmarks/results/evaluations.csv, again after each run, so that an interruption loses nothing."""
    out = Path(__file__).parent / "results" / "evaluations.csv"
    out.parent.mkdir(exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((*row[:6], f"{row[6]:.6g}", f"{row[7]:.2f}") for row in rows)


def table(rows: list[tuple]) -> None:
    """Median KL over seeds and problem seeds at each number of evaluations."""
    marks = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 5120, 16384)
    print(f"\n{'median KL, nats':45s}" + "".join(f"{n:>9d}" for n in marks))
    for key in dict.fromkeys((row[0], row[3], row[4]) for row in rows):
        cells = []
        for n in marks:
            values = [row[6] for row in rows if (row[0], row[3], row[4]) == key and row[5] == n]
            cells.append(f"{median(values):9.2g}" if values else " " * 9)
        print(f"{' '.join(key):45s}" + "".join(cells))


if __name__ == "__main__":
    main()
