"""Accuracy against evaluations of F, for every way of fine-tuning and its peers.

    python benchmarks/evaluations.py            all problems, three seeds (50 minutes on two cores;
                                                without gaussian-1024 half an hour)
    python benchmarks/evaluations.py --quick    two small problems, one seed: about a minute
    python benchmarks/evaluations.py --problem lognormal-64 --seeds 1
    python benchmarks/evaluations.py --table    table, claims and figure of the rows that are there

Each problem has one pretraining, from which every method starts (score replay and path gradients
from random weights too); NUTS starts at draws of the pretrained flow, the normal guides at their
moments. Measuring costs no evaluation. Writes benchmarks/results/evaluations.csv (rows of other
problems are kept) and evaluations.png, and prints medians and quartiles over seeds, and what the
project claims.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from accuracy import Reference, reference_of
from evaluations_table import RESULTS, claims, read, table, write
from peers import normal_guide, nuts

from pflow.config.methods import (
    ImportanceSettings,
    LatentGaussianSettings,
    MethodSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
)
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.finetuning.correction import correct_latent, wants_correction
from pflow.finetuning.objectives import objective_of, uses_gradient, wrap
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.target_objective import TargetObjective
from pflow.problems import build_problem
from pflow.storage.checkpoint import Checkpoint
from pflow.training import train

SMALL = {"name": "coupling", "depth": 8, "hidden": 64}
LARGE = {"name": "coupling", "depth": 6, "hidden": 128}
PAPER = {"name": "chint", "depth": 8, "hidden": 64}
RECIPE = {
    "gradient": "total",
    "warmup": 0,
    "schedule": "exponential",
    "clip": 1e9,
    "keep": "last",
}  # the paper's: config.yaml
PEERS = ("nuts", "advi", "full_rank")


@dataclass(frozen=True)
class Case:
    """A problem of the benchmark: the seeds of operator and observation, the flow, and what each
    method may spend.
    """

    settings: dict[str, Any]
    problem_seeds: tuple[int, ...]
    flow: dict[str, Any]
    epochs: int
    replay: tuple[int, ...]
    path: tuple[int, ...]
    paper: int = 0
    paper_scratch: int = 0
    total: int = 0
    latent: int = 0
    importance: int = 0
    peers: bool = True


CASES = {
    "rosenbrock": Case(
        {}, (0, 1, 2, 3, 4), SMALL, 25, (256,), (5120,), 5120, 25600, 5120, 1024, 2048
    ),
    "bimodal": Case({}, (0,), SMALL, 25, (256,), (5120,), 5120, 25600, 5120, 1024, 2048),
    "gaussian-64": Case({"side": 8}, (3,), LARGE, 30, (1000,), (4096,), 16384, 0, 4096, 1024),
    "lognormal-64": Case({"side": 8}, (3,), LARGE, 30, (1000,), (4096,), 16384, 0, 4096, 1024),
    "gaussian-1024": Case(
        {"side": 32}, (3,), {**LARGE, "hidden": 256}, 10, (500, 2000), (500, 2000), peers=False
    ),
}
QUICK = {
    "bimodal": Case({}, (0,), SMALL, 10, (64,), (1024,), 1024, peers=False),
    "gaussian-16": Case({"side": 4}, (3,), LARGE, 15, (128,), (1024,), 1024),
}


@dataclass(frozen=True)
class Task:
    """One curve."""

    problem: str
    problem_seed: int
    seed: int
    name: str
    start: str
    flow: tuple[tuple[str, Any], ...]
    method: MethodSettings | None


def tasks_of(problem: str, case: Case, seeds: range) -> Iterator[Task]:
    """Every curve of a problem, the longest first."""
    for problem_seed in case.problem_seeds:
        for seed in seeds:
            for start in ("pretrained", "random"):
                shared = {"flow": "", "start": start}
                methods: list[tuple[str, dict, MethodSettings]] = [
                    ("score_replay", case.flow, ScoreReplaySettings(**shared, evaluations=n))
                    for n in case.replay
                ]
                methods += [
                    (
                        "path_gradient",
                        case.flow,
                        ReverseKLSettings(**shared, evaluations=n, batch=16),
                    )
                    for n in case.path
                ]
                if start == "pretrained":
                    if case.total:
                        methods.append(
                            (
                                "total_gradient",
                                case.flow,
                                ReverseKLSettings(
                                    **shared, evaluations=case.total, batch=16, gradient="total"
                                ),
                            )
                        )
                    if case.latent:
                        methods.append(
                            (
                                "latent",
                                case.flow,
                                LatentGaussianSettings(**shared, evaluations=case.latent),
                            )
                        )
                    if case.importance:
                        methods.append(
                            (
                                "importance",
                                case.flow,
                                ImportanceSettings(**shared, evaluations=case.importance),
                            )
                        )
                paper = {"pretrained": (case.paper, 192), "random": (case.paper_scratch, 16)}[start]
                if paper[0]:
                    methods.append(
                        (
                            "seed_paper",
                            PAPER,
                            ReverseKLSettings(
                                **shared, evaluations=paper[0], decay_steps=paper[1], **RECIPE
                            ),
                        )
                    )
                if "1024" in problem and start == "random":  # hours of nothing
                    methods = []
                for name, flow, method in methods:
                    yield Task(
                        problem, problem_seed, seed, name, start, tuple(flow.items()), method
                    )
            for name in PEERS if case.peers else ():
                yield Task(
                    problem, problem_seed, seed, name, "pretrained", tuple(case.flow.items()), None
                )


class Marks:
    """Measures the flow at 0, 16, 32, 64, ... evaluations and at the end."""

    criterion, patience = None, 0

    def __init__(
        self,
        reference: Reference,
        summary: torch.Tensor,
        objective: TargetObjective,
        target: Target,
    ) -> None:
        self.reference, self.summary, self.objective, self.target = (
            reference,
            summary,
            objective,
            target,
        )
        self.found: list[tuple[int, dict[str, float], float]] = []
        self.began, self.measuring = time.perf_counter(), 0.0

    def learnt(self) -> int:
        return self.objective.points_learnt_from

    def mark(self, objective: TargetObjective) -> int:
        return (self.learnt() // 16).bit_length()

    @torch.no_grad()
    def measure(self, flow: torch.nn.Module) -> dict[str, float]:
        began = time.perf_counter()
        errors = self.reference.of_density(
            *flow.sample_with_log_prob(
                self.summary, self.reference.enough(), torch.Generator().manual_seed(7)
            )
        )
        self.found.append((self.learnt(), errors, began - self.began - self.measuring))
        self.measuring += time.perf_counter() - began
        return {}


@lru_cache(maxsize=4)
def posterior(problem: str, problem_seed: int, cache: Path) -> Reference:
    """The problem, its observation and reference; computed once by whoever comes first."""
    file = cache / f"{problem}-{problem_seed}.pt"
    case = CASES.get(problem) or QUICK[problem]
    name = problem.split("-")[0]
    built = build_problem(
        name, **case.settings, **({} if name == "bimodal" else {"operator_seed": problem_seed})
    )
    generator = generator_for(problem_seed, "observation")
    given = {"rosenbrock": [[2.0, 4.0]], "bimodal": [[1.3, 0.2]]}
    stretch = (
        1.5 if name == "gaussian" else 1.0
    )  # of the true model: harder than what pretraining has seen, where F is linear
    x_true = (
        torch.tensor(given[name]) if name in given else stretch * built.sample_prior(1, generator)
    )
    clean = built.high_fidelity(x_true)
    y = clean + built.noise_std * torch.randn(clean.shape, generator=generator)
    if not file.exists():
        reference = reference_of(built, y)
        torch.save((reference.mean, reference.std, reference.draws, reference.log_evidence), file)
    return Reference(built, y, *torch.load(file, weights_only=False))


def pretrain(
    problem: str, problem_seed: int, flow: tuple[tuple[str, Any], ...], cache: Path
) -> None:
    """Maximum likelihood on 5000 low-fidelity pairs; the weights go to the cache."""
    torch.set_num_threads(1)
    built, settings = posterior(problem, problem_seed, cache).problem, dict(flow)
    epochs = (CASES.get(problem) or QUICK[problem]).epochs
    torch.manual_seed(0)
    network = build_flow(model_shape=built.model_shape, data_shape=built.data_shape, **settings)
    x, y = built.simulate(5000, generator_for(0, "pairs"))
    network.initialise(x[:1024], y[:1024])
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for epoch in range(epochs):
        for chosen in torch.randperm(5000, generator=generator_for(epoch, "order")).split(
            128 if x.shape[1] > 2 else 64
        ):
            loss = -network.log_prob_pairs(x[chosen], y[chosen]).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            adam.step()
        schedule.step()
    torch.save(network.state_dict(), cache / f"{problem}-{problem_seed}-{settings['name']}.pt")


def run(task: Task, cache: Path) -> list[dict[str, Any]]:
    """The rows of one curve."""
    torch.set_num_threads(1)
    reference, settings = posterior(task.problem, task.problem_seed, cache), dict(task.flow)
    problem, y = reference.problem, reference.y
    torch.manual_seed(1000 + task.seed)
    architecture = {
        **settings,
        "model_shape": problem.model_shape,
        "data_shape": problem.data_shape,
    }
    flow = build_flow(**architecture)
    if task.start == "pretrained":
        flow.load_state_dict(
            torch.load(cache / f"{task.problem}-{task.problem_seed}-{settings['name']}.pt")
        )
    else:
        flow.initialise_inverse(
            64,
            y,
            generator_for(task.seed, "initialise"),
            problem.sample_prior(256, generator_for(task.seed, "initialise", "prior")),
        )
    began = time.perf_counter()
    if task.method is None:
        with torch.no_grad():
            start = flow.sample(y, 1000, generator_for(task.seed, "start"))
        peer = (
            nuts(reference, start, task.seed)
            if task.name == "nuts"
            else normal_guide(task.name, reference, start, task.seed)
        )
        found = [(n, errors, time.perf_counter() - began) for n, errors in peer]
    else:
        flow, architecture = wrap(flow, architecture, task.method)
        target = Target(problem, y, gradient=uses_gradient(task.method, problem))
        objective, optimiser = objective_of(task.method, target)
        marks = Marks(reference, target.summary, objective, target)
        with tempfile.TemporaryDirectory() as folder:
            train(
                flow,
                objective,
                optimiser,
                generator=generator_for(task.seed, "finetune"),
                monitor=marks,
                checkpoint=Checkpoint(Path(folder) / "state", "benchmark"),
                progress=Progress("", io.StringIO()),
            )
        if wants_correction(task.method, problem.model_shape, target.ledger.points):
            marks.found.pop()  # what the run ends with is the corrected flow
            marks.measure(
                correct_latent(
                    flow, architecture, task.method, target, generator_for(task.seed, "correct")
                ).flow
            )
        found = marks.found
    key = {
        "problem": task.problem,
        "problem_seed": task.problem_seed,
        "seed": task.seed,
        "method": task.name,
        "start": task.start,
    }
    key["budget"] = task.method.evaluations if task.method else found[-1][0]
    return [{**key, "evaluations": n, "seconds": seconds, **errors} for n, errors, seconds in found]


def _call(arguments: tuple) -> Any:
    return arguments[0](*arguments[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small problems, one seed")
    parser.add_argument(
        "--problem",
        choices=CASES,
        action="append",
        help="this problem only; may be given more than once",
    )
    parser.add_argument(
        "--method",
        action="append",
        help="this method only, by its name in the table; may be given more than once",
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each method (default 3)")
    parser.add_argument(
        "--processes",
        type=int,
        default=2,
        help="curves at the same time, one thread each (default 2)",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="run nothing: table, claims and figure of the rows that are there",
    )
    options = parser.parse_args()
    file = RESULTS / ("evaluations_quick.csv" if options.quick else "evaluations.csv")
    if not options.table:
        cases = QUICK if options.quick else {name: CASES[name] for name in options.problem or CASES}
        seeds = range(1 if options.quick else options.seeds)
        tasks = [
            task
            for name, case in cases.items()
            for task in tasks_of(name, case, seeds)
            if task.name in (options.method or [task.name])
        ]
        with (
            tempfile.TemporaryDirectory() as folder,
            get_context("spawn").Pool(options.processes, maxtasksperchild=20) as pool,
        ):
            cache = Path(folder)
            pool.map(
                _call,
                [
                    (posterior, *key, cache)
                    for key in dict.fromkeys((task.problem, task.problem_seed) for task in tasks)
                ],
                chunksize=1,
            )
            flows = dict.fromkeys(
                (task.problem, task.problem_seed, task.flow)
                for task in tasks
                if task.start == "pretrained"
            )
            pool.map(_call, [(pretrain, *key, cache) for key in flows], chunksize=1)
            known = [
                row
                for row in read(file)
                if row["problem"] not in cases
                or (options.method and row["method"] not in options.method)
            ]
            for done, rows in enumerate(
                pool.imap_unordered(_call, [(run, task, cache) for task in tasks]), start=1
            ):
                known += rows
                write(file, known)
                last = rows[-1]
                kl = f"KL {last['kl_reverse_nats']:.3g} nats, " if "kl_reverse_nats" in last else ""
                where = (
                    f"{last['problem']} {last['problem_seed']} seed {last['seed']} "
                    f" {last['method']} ({last['start']})"
                )
                print(
                    f"{done}/{len(tasks)} {where}: {kl}mean off by"
                    f" {last['mean_error_posterior_std']:.3f} std after {last['evaluations']}"
                    f" evaluations, {last['seconds']:.0f} s",
                    flush=True,
                )
    rows = read(file)
    print(table(rows))
    print(claims(rows))
    from evaluations_figure import draw

    draw(rows, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
