"""The benchmark of Aristoff and Bangerth against what they published."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.problems.poisson import Poisson

DATA = Path(__file__).parents[2] / "config" / "poisson_data.npz"

# Of the folder MCMC-Laplace/testing of https://github.com/dealii/code-gallery: the log-likelihood,
# without its constant, of theta = 1, and values z of theta = 1, 2, ... 64, by their place.
ONES = -228.510844004
COUNTING = {
    0: 2.3014200637710092e-02,
    1: 1.7227013822948514e-02,
    12: 1.6370398837699063e-03,
    13: 2.6708208929557244e-02,
    156: 6.7802262094511226e-03,
    168: 1.4879514379430876e-03,
}


@pytest.fixture(scope="module")
def problem():
    return Poisson()


@pytest.fixture(scope="module")
def published():
    with np.load(DATA) as found:
        return {name: torch.from_numpy(found[name])[None] for name in found.files}


def log_likelihood(problem, theta, y):
    """Without its constant."""
    return -0.5 * (problem.high_fidelity(theta.log()) - y).square().sum().item() / 0.05**2


def test_the_data_are_those_of_the_publication(published):
    y = published["y"]
    assert y.shape == (1, 169) and published["theta_true"].shape == (1, 64)
    assert y[0, 0] == 0.06076511762259369 and y[0, -1] == 0.1067965550010013
    square = y.reshape(13, 13)
    torch.testing.assert_close(square, square.T, rtol=0, atol=1e-12)  # the membrane is symmetric


def test_log_likelihood_of_the_published_test(problem, published):
    ones = torch.ones(1, 64, dtype=torch.float64)
    assert log_likelihood(problem, ones, published["y"]) == pytest.approx(ONES, abs=1e-8)


def test_coefficients_and_points_are_in_the_published_order(problem):
    x = torch.arange(1, 65, dtype=torch.float64).log()[None]
    z = problem.high_fidelity(x)[0]
    found = {place: z[place].item() for place in COUNTING}
    assert found == pytest.approx(COUNTING, rel=1e-10)


def test_solutions_for_the_true_coefficients_approach_the_data(published):
    x, y = published["theta_true"].log(), published["y"]
    errors = [
        (Poisson(mesh=n).high_fidelity(x) - y).abs().max().item() for n in (8, 16, 32, 64, 128)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.012 and errors[4] < 0.001


def test_the_prior_is_the_published_density_of_theta(problem):
    """p(x) / p(x') = exp(-(ln theta)^2 / 8 + (ln theta')^2 / 8) theta / theta'."""
    x = torch.randn(2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, expected = problem.log_prior(x), (x - x.square() / 8).sum(1)
    torch.testing.assert_close(found[0] - found[1], expected[0] - expected[1])


def test_the_mode(problem, published):
    """Of |F(x) - y|^2 / (2 0.05^2) + |x - 4|^2 / 8."""
    target = Target(problem, published["y"])
    normal = 169 * math.log(0.05 * math.sqrt(2 * math.pi)) + 64 * math.log(
        2 * math.sqrt(2 * math.pi)
    )

    def cost(x):
        found = target.evaluate(torch.from_numpy(x)[None])
        return -float(found.log_density) - normal, -found.score[0].numpy()

    found = minimize(cost, np.zeros(64), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    assert found.fun == pytest.approx(128.8629, abs=2e-4)


def test_settings_describe_the_problem():
    settings = problem_settings("poisson", low_mesh=8)
    problem = build_problem("poisson", **settings.settings)
    assert settings.model_shape == problem.model_shape == (64,)
    assert problem.data_shape == (169,) and problem.low_fidelity.mesh == 8
    assert problem.field_shape == (8, 8) and problem.parameter_names[9] == "x[1,1]"


@pytest.mark.parametrize("change", [{"mesh": 12}, {"low_mesh": 4}, {"noise_std": 0.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(PflowError):
        Poisson(**change)
