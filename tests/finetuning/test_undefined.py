"""A run that cannot go on says in one line why: F that is NaN, or training that has diverged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pflow.config.methods import (
    FinetuningSettings,
    ImportanceSettings,
    LatentGaussianSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.finetuning.accuracy_monitor import AccuracyMonitor
from pflow.finetuning.objectives import wrap
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.operators import Operator
from pflow.problems import Gaussian
from tests.support.fine_tuning import fine_tune_by_settings

SHARED = {"flow": "coupling", "start": "random", "evaluations": 64}
ANY_FLOW = {"reverse_kl": ReverseKLSettings, "importance": ImportanceSettings}
METHODS = {
    **{name: kind(**SHARED) for name, kind in ANY_FLOW.items()},
    "latent, closed form": LatentGaussianSettings(**SHARED),
    "score replay": ScoreReplaySettings(**SHARED),
    "surrogate": SurrogateSettings(**SHARED),
}


class Undefined(Operator):
    """F x = x where x_1 is below a limit, NaN elsewhere; nothing says so beforehand."""

    def __init__(self, limit: float) -> None:
        super().__init__((4,), (4,))
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, :1] > self.limit, torch.nan, x)


class Outside(Undefined):
    """The same, with its domain."""

    def valid(self, x: Tensor) -> Tensor:
        return x[:, 0] <= self.limit


def fine_tuned(method: FinetuningSettings, folder: Path, operator: Operator | None = None) -> None:
    """Training as the stage does it, with its measurement of accuracy."""
    problem = Gaussian(side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    exact = problem.exact_posterior(y)
    if operator is not None:
        problem.high_fidelity = operator
    torch.manual_seed(0)
    architecture = {"name": "coupling", "model_shape": (4,), "data_shape": (4,), "hidden": 8}
    flow, _ = wrap(build_flow(**architecture), architecture, method, problem)
    target = Target(problem, y)
    fine_tune_by_settings(
        flow, method, target, folder, AccuracyMonitor(exact, target, seed=0, draws=200)
    )


@pytest.mark.parametrize("name", METHODS)
def test_an_operator_that_is_undefined_is_named_with_the_way_out(name, tmp_path):
    with pytest.raises(PflowError, match="restrict the prior") as error:
        fine_tuned(METHODS[name], tmp_path, Undefined(-1e6))
    assert "`valid` names" not in str(error.value) and "NaN or infin" in str(error.value)
    if name != "surrogate":
        assert "`Undefined` returns NaN" in str(error.value)


def test_draws_outside_the_domain_are_called_that(tmp_path):
    with pytest.raises(PflowError, match=r"outside the domain that `Outside.valid` names \(64 of"):
        fine_tuned(METHODS["reverse_kl"], tmp_path, Outside(-1e6))


@pytest.mark.parametrize("learning_rate", [1e3, 1e30])
@pytest.mark.parametrize("name", ["reverse_kl", "importance", "latent"])
def test_a_step_size_that_is_far_too_large_is_named(name, learning_rate, tmp_path):
    changes = {"learning_rate": learning_rate} | SHARED | {"evaluations": 640}
    if name == "latent":
        method = LatentGaussianSettings(**changes, fit="reverse_kl", batch=16)
    else:
        method = ANY_FLOW[name](**changes, **({"batch": 16} if name == "reverse_kl" else {}))
    with pytest.raises(PflowError, match="lower `learning_rate`"):
        fine_tuned(method, tmp_path)
