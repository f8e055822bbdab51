"""The problem of settings that name models on UM-Bridge servers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pflow.config.umbridge import (
    LowFidelityModelSettings,
    MaternPriorSettings,
    NormalPriorSettings,
    UMBridgeProblemSettings,
    UniformPriorSettings,
)
from pflow.errors import PflowError
from pflow.stages.io.inputs import problem_from
from tests.support import umbridge_server


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    with umbridge_server.serving(tmp_path_factory.mktemp("server")) as url:
        yield UMBridgeProblemSettings(
            umbridge=url,
            model="linear",
            config={"scale": 2.0},
            low_fidelity=LowFidelityModelSettings(config={"scale": 1.0}),
            prior=NormalPriorSettings(mean=[1.0, -1.0], std=[0.5]),
            noise_std=[0.1, 0.2, 0.3],
        )


def test_two_configurations_are_the_two_fidelities(settings):
    problem = problem_from(settings)
    x = torch.tensor([[3.0, 1.0]])
    assert problem.low_fidelity(x).tolist() == [[4.0, 2.0, 3.0]]
    assert problem.high_fidelity(x).tolist() == [[4.0, 2.0, 6.0]]
    residual = torch.tensor([[0.1, 0.2, 0.3]])
    torch.testing.assert_close(problem.noise.whiten(residual), torch.ones(1, 3))


def test_two_models_are_the_two_fidelities(settings):
    two = dataclasses.replace(
        settings,
        model="forward",
        low_fidelity=LowFidelityModelSettings(model="values", config={"scale": 1.0}),
        noise_std=[0.1],
    )
    problem = problem_from(dataclasses.replace(two, prior=NormalPriorSettings()))
    x = torch.tensor([[2.0, 1.0, 0.0]])
    assert problem.low_fidelity(x).tolist() == [[9.0, 0.0, 0.0]]
    assert problem.high_fidelity(x).tolist() == [[18.0, 0.0, 0.0]]  # its config has scale 2
    assert problem.high_fidelity.differentiable and not problem.low_fidelity.differentiable


def test_a_normal_prior_has_the_moments_of_its_settings(settings):
    x = problem_from(settings).sample_prior(20000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), torch.tensor([1.0, -1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(0), torch.tensor([0.5, 0.5]), atol=0.02, rtol=0)


def test_parameters_of_a_uniform_prior_stay_between_their_bounds(settings):
    uniform = dataclasses.replace(settings, prior=UniformPriorSettings(low=[2.0], high=[3.0, 5.0]))
    problem = problem_from(uniform)
    x = problem.sample_prior(200, torch.Generator().manual_seed(0))
    p = problem.physical(x)
    assert (p > 2).all() and (p < torch.tensor([3.0, 5.0])).all()
    torch.testing.assert_close(problem.high_fidelity(x)[:, 2], 2 * p[:, 0])


MISTAKES = {
    "mean": (NormalPriorSettings(mean=[0.0] * 3), "one for each of the 2 parameters"),
    "std": (NormalPriorSettings(std=[0.0]), "must hold positive numbers"),
    "bounds": (UniformPriorSettings(low=[1.0], high=[1.0]), "must be less than"),
    "grid": (MaternPriorSettings(grid=[3], length=1.0), "as many points as the model has"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_prior_that_does_not_fit_the_model_is_refused(settings, case):
    prior, message = MISTAKES[case]
    with pytest.raises(PflowError, match=message):
        problem_from(dataclasses.replace(settings, prior=prior))


def test_a_matern_prior_has_its_mean_and_covariance(settings):
    prior = MaternPriorSettings(grid=[2], length=1.0, smoothness=0.5, std=2.0, mean=3.0)
    x = problem_from(dataclasses.replace(settings, prior=prior)).sample_prior(
        40000, torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(x.mean(0), torch.tensor([3.0, 3.0]), atol=0.04, rtol=0)
    correlation = torch.exp(torch.tensor(-1.0))
    torch.testing.assert_close(torch.corrcoef(x.T)[0, 1], correlation, atol=0.01, rtol=0)
