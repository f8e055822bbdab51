"""A pretrained flow that left the domain of the physics is replaced by a start from the prior."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor

from pflow.config.flows import CouplingFlowSettings
from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import (
    MethodSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.config.problems import problem_settings
from pflow.execution.progress import Progress
from pflow.finetuning.result import FinetuneInputs, run_finetuning
from pflow.finetuning.start import Start, load_start
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.operators.functions import TorchOperator
from pflow.problems import Gaussian, Problem
from pflow.storage.checkpoint import Checkpoint

SHARED = {"flow": "coupling", "start": "pretrained"}
METHODS: dict[str, MethodSettings] = {
    "score replay": ScoreReplaySettings(**SHARED, evaluations=96, inner=40),
    "path gradients": ReverseKLSettings(**SHARED, evaluations=1024, batch=16, learning_rate=2e-2),
    "surrogate": SurrogateSettings(**SHARED, evaluations=48),
}
ARCHITECTURE = {
    "name": "coupling",
    "model_shape": [4],
    "data_shape": [4],
    "depth": 2,
    "hidden": 8,
}


class Bounded(Gaussian):
    """A Gaussian problem whose operator exists for |x| < 8 only, 8 prior standard deviations."""

    def __init__(self) -> None:
        super().__init__(side=2)
        original = self.high_fidelity
        self.high_fidelity = TorchOperator(
            original.forward,
            original.model_shape,
            original.data_shape,
            linear=True,
            valid=lambda x: x.abs().flatten(1).amax(1) < 8,
        )


def amortised(problem: Problem, far: float) -> Flow:
    """A flow as pretraining leaves it, whose draws lie at `far`."""
    torch.manual_seed(0)
    flow = build_flow(**ARCHITECTURE)
    x, y = problem.simulate(256, torch.Generator().manual_seed(0))
    flow.initialise(x + far, y)
    return flow


def job(method: MethodSettings) -> FinetuneJobSettings:
    problem, flow = problem_settings("gaussian", side=2), CouplingFlowSettings(depth=2, hidden=8)
    return FinetuneJobSettings(problem, flow, method, 0, "cpu", "e", "y1", "m")


def observation(problem: Problem) -> Tensor:
    return problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]


def start(method: MethodSettings, far: float) -> tuple[Start, Tensor]:
    """The start of a method from a flow at `far`, and draws of it."""
    problem = Bounded()
    y, pretrained = observation(problem), amortised(problem, far)
    given = (problem, problem, y, ARCHITECTURE, pretrained, None, None)
    loaded = load_start(job(method), *given, say=lambda message: None)
    random = torch.Generator().manual_seed(5)
    return loaded, loaded.flow.sample(problem.summary(y), 500, random).detach()


@pytest.mark.parametrize("name", METHODS)
def test_a_flow_outside_the_domain_is_replaced_by_the_prior(name):
    replaced, x = start(METHODS[name], 50.0)
    assert "64 of 64 draws of the pretrained flow lay outside the domain" in replaced.note
    assert "unlike the training data" in replaced.note
    np.testing.assert_allclose(x.mean(0), 0, atol=0.5)
    assert 0.5 < float(x.std()) < 2, "as wide as the prior"


@pytest.mark.parametrize("name", METHODS)
def test_a_flow_inside_the_domain_is_the_start(name):
    kept, x = start(METHODS[name], 3.0)
    assert kept.note == ""
    np.testing.assert_allclose(x.mean(0), 3, atol=0.5)


def test_fine_tuning_from_the_prior_finds_the_posterior_and_tells_why(tmp_path):
    problem = Bounded()
    y, pretrained = observation(problem), amortised(problem, 50.0)
    choice, store = tmp_path / "choice.json", tmp_path / "evaluations.zarr"
    inputs = FinetuneInputs(
        problem, problem, None, y, ARCHITECTURE, pretrained, None, choice, store, None
    )
    log, checkpoint = io.StringIO(), Checkpoint(tmp_path / "state.safetensors", "test")
    settings = job(METHODS["path gradients"])
    result = run_finetuning(settings, inputs, checkpoint, Progress("finetune", log))
    assert result.start_note.startswith("64 of 64") and result.start_note in log.getvalue()
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        x, log_q = result.flow.sample_with_log_prob(problem.summary(y), 2000, random)
    assert float((log_q - problem.exact_posterior(y).log_density(x)).mean()) < 1, "nats"
