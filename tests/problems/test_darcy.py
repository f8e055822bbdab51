"""Darcy flow: the prior, the gap between the fidelities, and the settings."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.operators import check_operator
from pflow.problems import build_problem
from pflow.problems.darcy import Darcy


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def problem():
    return Darcy()


def test_the_prior_is_the_matern_field_of_the_square(problem):
    x = problem.sample_prior(20_000, seeded(), torch.float64)
    r = math.sqrt(3) / 32 / 0.2  # of neighbours
    expected = (1 + r) * math.exp(-r)
    assert x[:, 0].var().item() == pytest.approx(1, rel=0.05)
    assert (x[:, 0] * x[:, 1]).mean().item() == pytest.approx(expected, rel=0.05)  # in a row
    assert (x[:, 0] * x[:, 32]).mean().item() == pytest.approx(expected, rel=0.05)  # in a column


def test_noise_is_two_percent_of_the_pressure_of_a_homogeneous_rock(problem):
    pressure = problem.high_fidelity(torch.zeros(1, 1024, dtype=torch.float64)).mean().item()
    assert problem.noise_std == pytest.approx(0.02 * pressure, rel=0.01)


def test_fidelities_differ_by_less_as_the_mesh_grows(problem):
    x = problem.sample_prior(20, seeded(), torch.float64)
    low, high = problem.low_fidelity(x), problem.high_fidelity(x)
    higher = Darcy(mesh=64).high_fidelity(x)
    gap, finer = (low - high).square().mean().sqrt(), (high - higher).square().mean().sqrt()
    assert finer < gap / 2
    assert problem.noise_std / 2 < gap < 2 * problem.noise_std  # what it costs to believe F_low


def test_operators_pass_their_checks(problem):
    x = problem.sample_prior(3, seeded(), torch.float64)
    for operator in (problem.low_fidelity, problem.high_fidelity):
        check_operator(operator, x, seeded())


def test_settings_describe_the_problem():
    settings = problem_settings("darcy", side=16, mesh=32, low_mesh=8)
    problem = build_problem("darcy", **settings.settings)
    assert settings.model_shape == problem.model_shape == (256,) and problem.data_shape == (100,)
    assert problem.field_shape == (16, 16) and problem.low_fidelity.mesh == 8


@pytest.mark.parametrize(
    "change",
    [{"side": 3}, {"side": 65}, {"std": 0.0}, {"length": -1.0}, {"noise_std": 0.0}, {"mesh": 48}],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(PflowError):
        Darcy(**change)
