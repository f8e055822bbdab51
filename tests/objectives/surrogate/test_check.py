"""The check of candidates at the end: their ELBO from a few evaluations and free draws."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.surrogate.check import checked
from pflow.objectives.surrogate.coordinates import WhitenedData, WhitenedModel
from pflow.objectives.surrogate.operator_model import LowFidelity, OperatorModel
from pflow.problems import build_problem

DRAWS, WIDER = 16, 1.25


@pytest.fixture(scope="module")
def asked():
    """A linear problem of 64 parameters, and the target at an observation."""
    problem = build_problem("gaussian", side=8)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high", torch.float64)[1]
    return problem, Target(problem, y)


def model(problem, target, operator):
    coordinates = WhitenedModel(problem, torch.Generator().manual_seed(0))
    low = LowFidelity(operator, coordinates, WhitenedData(problem, target.y))
    return OperatorModel(low, None)


def candidate(problem, target, width):
    """The exact posterior, its standard deviations times `width`."""
    exact = problem.exact_posterior(target.y, fidelity="high")
    base = {"depth": 1, "hidden": 8} | {
        "name": "coupling",  # which changes nothing before it is trained
        "model_shape": problem.model_shape,
        "data_shape": problem.summary_shape,
    }
    flow = build_flow("affine", problem.model_shape, problem.summary_shape, base=base).double()
    flow.set_gaussian(exact.mean.flatten(), torch.linalg.cholesky(exact.covariance) * width)
    return flow


def test_with_a_good_model_few_evaluations_tell_two_candidates_apart(asked):
    problem, target = asked
    exact_model = model(problem, target, problem.high_fidelity)
    found = [
        checked(
            candidate(problem, target, width),
            target,
            exact_model,
            DRAWS,
            0,
            torch.Generator().manual_seed(2),
        )
        for width in (1.0, WIDER)
    ]
    divergence = 64 * (0.5 * (WIDER**2 - 1) - math.log(WIDER))
    error = math.hypot(found[0].error, found[1].error)
    assert found[0].elbo - found[1].elbo == pytest.approx(divergence, abs=4 * error)
    assert error < 0.2  # of these draws alone 0.8
    assert found[0].model_error == pytest.approx(0, abs=1e-4)


def test_with_a_poor_model_the_evaluations_alone_count(asked):
    problem, target = asked
    poor = model(problem, target, problem.low_fidelity)
    flow = candidate(problem, target, WIDER)
    found = checked(flow, target, poor, DRAWS, 0, torch.Generator().manual_seed(2))
    x, log_q = flow.sample_with_log_prob(target.summary, DRAWS, torch.Generator().manual_seed(2))
    weight = (target.evaluate(x, 0).log_density - log_q).detach()
    assert found.elbo == pytest.approx(float(weight.mean()))
    assert found.model_error > found.error
