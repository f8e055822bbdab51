"""F, or the low-fidelity F, without a gradient."""

from __future__ import annotations

import pytest
import torch

from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.objective import Surrogate
from pflow.operators import Operator
from pflow.problems import build_problem
from tests.objectives.surrogate.test_surrogate import divergence, fine_tune, observation


class Values(Operator):
    """An operator whose gradient nobody may ask for."""

    differentiable = False

    def __init__(self, operator):
        super().__init__(operator.model_shape, operator.data_shape)
        self.operator = operator

    @torch.no_grad()
    def forward(self, x):
        return self.operator.forward(x)


def with_values(name, **settings):
    problem = build_problem(name, **settings)
    y = torch.tensor([[1.3, 0.2]]) if name == "bimodal" else observation(problem)
    problem.high_fidelity = Values(problem.high_fidelity)
    return problem, y


def exact_of(name, **settings):
    return build_problem(name, **settings)


def test_a_linear_operator_takes_one_evaluation_a_parameter(tmp_path):
    problem, y = with_values("gaussian", side=5)
    flow, objective, _ = fine_tune(problem, y, 40, tmp_path / "state", gradient=False)
    assert divergence(flow, exact_of("gaussian", side=5), y) < 1e-2
    assert objective.warning == ""


def test_a_low_fidelity_without_a_gradient_takes_no_part_and_is_told():
    problem = build_problem("gaussian", side=3)
    y = observation(problem)
    problem.low_fidelity = Values(problem.low_fidelity)
    objective = Surrogate(Target(problem, y), Stopping(16))
    assert objective.exploration.low.operator is None
    assert "takes no part" in objective.warning and "has no gradient" in objective.warning


@pytest.mark.slow
@pytest.mark.long
def test_two_modes_from_values(tmp_path):
    problem, y = with_values("bimodal")
    flow, _, _ = fine_tune(problem, y, 32, tmp_path / "state", gradient=False)
    assert divergence(flow, exact_of("bimodal"), y) < 0.4
