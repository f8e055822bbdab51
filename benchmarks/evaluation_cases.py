"""The curves of `evaluations.py`: problems, and what each method may spend on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pflow.config.methods import (
    ImportanceSettings,
    LatentGaussianSettings,
    MethodSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
)

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
                if "1024" in problem and start == "random":  # hours of nothing
                    continue
                for name, flow, method in methods_of(case, start):
                    yield Task(
                        problem, problem_seed, seed, name, start, tuple(flow.items()), method
                    )
            for name in PEERS if case.peers else ():
                yield Task(
                    problem, problem_seed, seed, name, "pretrained", tuple(case.flow.items()), None
                )


def methods_of(case: Case, start: str) -> list[tuple[str, dict[str, Any], MethodSettings]]:
    """Name, flow and settings of every method of ours that begins at `start`."""
    shared = {"flow": "", "start": start}
    replay = [ScoreReplaySettings(**shared, evaluations=n) for n in case.replay]
    path = [ReverseKLSettings(**shared, evaluations=n, batch=16) for n in case.path]
    methods: list[tuple[str, dict[str, Any], MethodSettings]] = [
        *(("score_replay", case.flow, method) for method in replay),
        *(("path_gradient", case.flow, method) for method in path),
    ]
    if start == "pretrained":
        others = (
            ("total_gradient", ReverseKLSettings, case.total, {"batch": 16, "gradient": "total"}),
            ("latent", LatentGaussianSettings, case.latent, {}),
            ("importance", ImportanceSettings, case.importance, {}),
        )
        methods += [
            (name, case.flow, settings(**shared, evaluations=n, **more))
            for name, settings, n, more in others
            if n
        ]
    n, decay_steps = {"pretrained": (case.paper, 192), "random": (case.paper_scratch, 16)}[start]
    if n:
        paper = ReverseKLSettings(**shared, evaluations=n, decay_steps=decay_steps, **RECIPE)
        methods.append(("seed_paper", PAPER, paper))
    return methods
