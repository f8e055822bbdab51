"""Bad input gives an honest verdict: a posterior that is far from the true one is never called
trustworthy.

Small Gaussian problems with known posteriors, all without a reference, as a user has it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pflow.config.methods import ReverseKLSettings
from pflow.diagnostics.verdict import TRUSTWORTHY
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.operators import Operator
from pflow.problems import Gaussian
from tests.support.faulty_operators import Faulty
from tests.support.fine_tuning import fine_tune_by_settings
from tests.support.posterior_cases import DRAWS, Case, computed_with

WRONG = 0.1  # nats of KL(q || posterior) from which a posterior is wrong


class Matrix(Operator):
    """F x = A x."""

    linear = True

    def __init__(self, matrix: Tensor) -> None:
        super().__init__((matrix.shape[1],), (matrix.shape[0],))
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T.to(x)


LOW_FIDELITIES = {
    "constant": torch.zeros(4, 4),
    "scaled": 3 * torch.eye(4),
    "of another sign": -torch.eye(4),
    "of another physics": torch.eye(4).flip(0),
}


def with_low_fidelity(matrix: Tensor) -> Gaussian:
    problem = Gaussian(side=2)
    problem.low_fidelity = Matrix(matrix)
    return problem


@pytest.mark.parametrize("fine_tuned", [False, True], ids=["amortised", "fine-tuning did nothing"])
@pytest.mark.parametrize("kind", LOW_FIDELITIES)
def test_the_posterior_of_a_wrong_low_fidelity_is_not_trusted(kind: str, fine_tuned: bool):
    problem = with_low_fidelity(LOW_FIDELITIES[kind])
    case = computed_with(kind, problem, problem, 3, "low", fine_tuned=fine_tuned)
    assert case.judgement().verdict != TRUSTWORTHY


@pytest.mark.parametrize("fine_tuned", [False, True], ids=["amortised", "fine-tuning did nothing"])
def test_data_far_outside_the_predictions_of_the_prior(fine_tuned: bool):
    problem = Gaussian(side=2)
    case = computed_with("far", problem, problem, 3, "low", scale=30.0, fine_tuned=fine_tuned)
    assert case.judgement().verdict != TRUSTWORTHY


def fine_tuned(fault: str, folder: Path) -> tuple[Case, float]:
    """Path gradients under the fault, and KL(q || posterior) in nats."""
    problem = Gaussian(side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high", torch.float64)[1]
    exact = problem.exact_posterior(y)
    limit = float(exact.mean[0] + 0.7 * exact.std[0])  # a quarter of the posterior lies beyond
    problem.high_fidelity = Faulty(problem.high_fidelity, fault, limit)
    torch.manual_seed(0)
    flow = build_flow("coupling", (4,), (4,), depth=2, hidden=8)
    flow.initialise_inverse(8, y.float())
    method = ReverseKLSettings(
        flow="coupling", start="random", evaluations=4096, batch=32, learning_rate=2e-2
    )
    fine_tune_by_settings(flow, method, Target(problem, y.float()), folder)
    flow = flow.double()

    @torch.no_grad()
    def log_q(x: Tensor) -> Tensor:
        return flow.log_prob(x, y)

    with torch.no_grad():
        x = flow.sample(y, DRAWS, torch.Generator().manual_seed(5))
    divergence = float((log_q(x) - exact.log_density(x)).mean())
    return Case(fault, problem, y, x, log_q), divergence


@pytest.mark.parametrize("fault", ["none", "noise", "sign", "NaN"])
def test_a_faulty_operator_gives_an_honest_posterior_or_an_advice(fault: str, tmp_path: Path):
    case, divergence = fine_tuned(fault, tmp_path)
    verdict = case.judgement().verdict
    assert verdict != TRUSTWORTHY or divergence < WRONG, (verdict, divergence)
    if fault == "none":
        assert verdict == TRUSTWORTHY
