"""One curve of `evaluations.py`: reference, pretraining, and a run that is measured on its way."""

from __future__ import annotations

import io
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accuracy import Reference, reference_of
from evaluation_cases import CASES, QUICK, Task
from peers import normal_guide, nuts

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

Found = list[tuple[int, dict[str, float], float]]  # evaluations, errors, seconds


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
        self.measured: Found = []
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
        self.measured.append((self.learnt(), errors, began - self.began - self.measuring))
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
    reference = posterior(task.problem, task.problem_seed, cache)
    torch.manual_seed(1000 + task.seed)
    architecture = {
        **dict(task.flow),
        "model_shape": reference.problem.model_shape,
        "data_shape": reference.problem.data_shape,
    }
    flow = _start(task, reference, architecture, cache)
    if task.method is None:
        measured = _run_peer(task, reference, flow)
    else:
        measured = _fine_tune(task, reference, flow, architecture)
    key = {
        "problem": task.problem,
        "problem_seed": task.problem_seed,
        "seed": task.seed,
        "method": task.name,
        "start": task.start,
        "budget": task.method.evaluations if task.method else measured[-1][0],
    }
    return [
        {**key, "evaluations": n, "seconds": seconds, **errors} for n, errors, seconds in measured
    ]


def _start(
    task: Task, reference: Reference, architecture: dict[str, Any], cache: Path
) -> torch.nn.Module:
    """The pretrained flow, or one of random weights."""
    flow = build_flow(**architecture)
    if task.start == "pretrained":
        file = cache / f"{task.problem}-{task.problem_seed}-{architecture['name']}.pt"
        flow.load_state_dict(torch.load(file))
        return flow
    prior = reference.problem.sample_prior(256, generator_for(task.seed, "initialise", "prior"))
    flow.initialise_inverse(64, reference.y, generator_for(task.seed, "initialise"), prior)
    return flow


def _run_peer(task: Task, reference: Reference, flow: torch.nn.Module) -> Found:
    began = time.perf_counter()
    with torch.no_grad():
        start = flow.sample(reference.y, 1000, generator_for(task.seed, "start"))
    if task.name == "nuts":
        curve = nuts(reference, start, task.seed)
    else:
        curve = normal_guide(task.name, reference, start, task.seed)
    return [(n, errors, time.perf_counter() - began) for n, errors in curve]


def _fine_tune(
    task: Task, reference: Reference, flow: torch.nn.Module, architecture: dict[str, Any]
) -> Found:
    problem, method = reference.problem, task.method
    flow, architecture = wrap(flow, architecture, method)
    target = Target(problem, reference.y, gradient=uses_gradient(method, problem))
    objective, optimiser = objective_of(method, target)
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
    if wants_correction(method, problem.model_shape, target.ledger.points):
        marks.measured.pop()  # what the run ends with is the corrected flow
        generator = generator_for(task.seed, "correct")
        marks.measure(correct_latent(flow, architecture, method, target, generator).flow)
    return marks.measured
