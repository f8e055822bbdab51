"""pflow's own methods in the league, each given a budget: the model of F (`surrogate`), score
replay, path gradients, the recipe of the paper.

A method is a function of a problem, a seed and a budget, and returns one row: the evaluations that
the ledger counted, errors, seconds.
"""

from __future__ import annotations

import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation_cases
import torch
from league_problems import CACHE, LeagueProblem

from pflow.config.methods import MethodSettings, ReverseKLSettings, ScoreReplaySettings
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.finetuning.objectives import objective_of
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.flows.spline_latent import SplineLatent
from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.objective import Surrogate
from pflow.objectives.target_objective import TargetObjective
from pflow.storage.checkpoint import Checkpoint
from pflow.training import Optimiser, train

__all__ = ["OURS"]

PAIRS, BATCH = 5000, 128
EPOCHS = {"few": 25, "many": 30}
CLIP = 100.0


class _Unwatched:
    """A monitor that measures nothing."""

    criterion, patience = None, 0

    def mark(self, objective: TargetObjective) -> int:
        return 0

    def measure(self, flow: Flow) -> dict[str, float]:
        return {}


def surrogate(
    given: LeagueProblem, seed: int, budget: int, start: str = "random", low_fidelity: bool = True
) -> dict[str, Any]:
    """The model of F, on F_low unless `low_fidelity` is False."""
    flow = _with_splines(given, seed, start) if given.few else _affine(given, seed)
    target = Target(given.problem, given.y)
    objective = Surrogate(target, Stopping(budget), low_fidelity=low_fidelity, seed=seed)
    optimiser = Optimiser(2e-3, clip=CLIP, betas=(0.9, 0.99))
    return _finetuned(given, flow, target, objective, optimiser, seed)


def score_replay(given: LeagueProblem, seed: int, budget: int, start: str) -> dict[str, Any]:
    """Scores kept and learnt again."""
    return _by_settings(given, seed, ScoreReplaySettings(flow="", start=start, evaluations=budget))


def path_gradient(given: LeagueProblem, seed: int, budget: int, start: str) -> dict[str, Any]:
    """Reverse KL by path gradients, 16 draws a step."""
    settings = ReverseKLSettings(flow="", start=start, evaluations=budget, batch=16)
    return _by_settings(given, seed, settings)


def seed_paper(given: LeagueProblem, seed: int, budget: int) -> dict[str, Any]:
    """The recipe of the paper: its flow, pretrained, and total gradients of fresh draws."""
    asked = replace(given, flow=evaluation_cases.PAPER)
    recipe = {"decay_steps": 192, **evaluation_cases.RECIPE}
    settings = ReverseKLSettings(
        flow="", start="pretrained", evaluations=budget, batch=16, **recipe
    )
    return _by_settings(asked, seed, settings)


OURS = {
    "surrogate": surrogate,
    "surrogate_no_low": lambda *asked: surrogate(*asked, low_fidelity=False),
    "surrogate_pretrained": lambda *asked: surrogate(*asked, start="pretrained"),
    "score_replay": lambda *asked: score_replay(*asked, start="pretrained"),
    "score_replay_random": lambda *asked: score_replay(*asked, start="random"),
    "path_gradient": lambda *asked: path_gradient(*asked, start="pretrained"),
    "path_gradient_random": lambda *asked: path_gradient(*asked, start="random"),
    "seed_paper": seed_paper,
}


def _by_settings(given: LeagueProblem, seed: int, settings: MethodSettings) -> dict[str, Any]:
    target = Target(given.problem, given.y)
    objective, optimiser = objective_of(settings, target)
    return _finetuned(given, _flow(given, seed, settings.start), target, objective, optimiser, seed)


def _finetuned(
    given: LeagueProblem,
    flow: Flow,
    target: Target,
    objective: TargetObjective,
    optimiser: Optimiser,
    seed: int,
) -> dict[str, Any]:
    """Train, and judge the flow."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(
            flow,
            objective,
            optimiser,
            generator=generator_for(seed, "finetune"),
            monitor=_Unwatched(),
            checkpoint=Checkpoint(Path(folder) / "state", "league"),
            progress=Progress("", io.StringIO()),
        )
    seconds = time.perf_counter() - began
    with torch.no_grad():
        draws = flow.sample_with_log_prob(
            target.summary, given.judge.enough(), torch.Generator().manual_seed(7)
        )
    errors = given.judge.of_density(*draws)
    return {"evaluations": target.ledger.points, "seconds": seconds, **errors}


def _base(given: LeagueProblem) -> dict[str, Any]:
    problem = given.problem
    return {
        **given.flow,
        "model_shape": problem.model_shape,
        "data_shape": problem.summary_shape,
    }


def _affine(given: LeagueProblem, seed: int) -> Flow:
    torch.manual_seed(1000 + seed)
    base = _base(given)
    return build_flow(
        name="affine",
        model_shape=base["model_shape"],
        data_shape=base["data_shape"],
        base=base,
    )


def _with_splines(given: LeagueProblem, seed: int, start: str) -> Flow:
    base, shapes = _flow(given, seed, start), _base(given)
    return SplineLatent(shapes["model_shape"], shapes["data_shape"], base)


def _flow(given: LeagueProblem, seed: int, start: str) -> Flow:
    """The flow of `seed`, with pretrained or random weights."""
    if start == "pretrained":
        flow = build_flow(**_base(given))
        flow.load_state_dict(torch.load(_pretrained(given)))
        return flow
    torch.manual_seed(1000 + seed)
    flow = build_flow(**_base(given))
    prior = given.problem.sample_prior(256, generator_for(seed, "initialise", "prior"))
    summary = given.problem.summary(given.y)
    flow.initialise_inverse(64, summary, generator_for(seed, "initialise"), prior)
    return flow


def _pretrained(given: LeagueProblem) -> Path:
    """Weights by maximum likelihood on pairs of low fidelity, made once."""
    file = CACHE / f"{given.name}-{given.seed}-{given.flow['name']}.pt"
    if file.exists():
        return file
    problem, epochs = given.problem, EPOCHS["few" if given.few else "many"]
    torch.manual_seed(0)
    network = build_flow(**_base(given))
    x, y = problem.simulate(PAIRS, generator_for(0, "pairs"))
    y = problem.summary(y)
    network.initialise(x[:1024], y[:1024])
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for epoch in range(epochs):
        order = torch.randperm(PAIRS, generator=generator_for(epoch, "order"))
        for chosen in order.split(BATCH):
            loss = -network.log_prob_pairs(x[chosen], y[chosen]).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            adam.step()
        schedule.step()
    torch.save(network.state_dict(), file)
    return file
