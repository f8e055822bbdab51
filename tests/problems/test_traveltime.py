"""Travel-time tomography: the gap between the two fidelities, what flows see, and the settings."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.operators import check_operator
from pflow.operators.workers import Workers
from pflow.problems import TravelTime, build_problem


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def problem():
    return TravelTime()


def test_the_prior_is_the_matern_field_in_metres(problem):
    x = problem.sample_prior(20_000, seeded(), torch.float64)
    r = math.sqrt(3) * 6.25 / 10  # of neighbours
    expected = 0.04 * (1 + r) * math.exp(-r)
    assert x[:, 0].var().item() == pytest.approx(0.04, rel=0.05)
    assert (x[:, 0] * x[:, 1]).mean().item() == pytest.approx(expected, rel=0.06)  # in a row
    assert (x[:, 0] * x[:, 16]).mean().item() == pytest.approx(expected, rel=0.06)  # in a column


def test_straight_rays_miss_about_seventy_percent_of_the_signal(problem):
    """And are too slow everywhere: first arrivals take the fast path."""
    x = problem.sample_prior(200, seeded(), torch.float64)
    cheap, dear = problem.low_fidelity(x), problem.high_fidelity(x)
    ratio = ((cheap - dear).square().mean() / dear.square().mean()).sqrt().item()
    assert 0.6 < ratio < 0.8
    assert (cheap - dear).mean() > problem.noise_std


def test_the_coarse_eikonal_equation_is_nearer_than_straight_rays(problem):
    """A third of the error, with a gradient; flows see the same image."""
    coarse = TravelTime(low_fidelity="coarse_eikonal")
    x = problem.sample_prior(50, seeded(), torch.float64)
    dear = problem.high_fidelity(x)
    rays, near = ((p.low_fidelity(x) - dear).square().mean() for p in (problem, coarse))
    assert near < rays / 4
    check_operator(coarse.low_fidelity, problem.sample_prior(4, seeded()), seeded())
    y = dear[:2].float()
    assert torch.equal(coarse.summary(y), problem.summary(y))
    with pytest.raises(PflowError, match="`side` \\(=17\\) must be even"):
        TravelTime(side=17, low_fidelity="coarse_eikonal")


def test_the_high_fidelity_operator_passes_its_checks(problem):
    check_operator(problem.high_fidelity, problem.sample_prior(4, seeded()), seeded())


def test_flows_see_an_image_that_resembles_the_model(problem):
    x, y = problem.simulate(100, seeded())
    image = problem.summary(y)
    assert image.shape == (100, *problem.summary_shape) == (100, 256)
    assert torch.corrcoef(torch.stack([image.flatten(), x.flatten()]))[0, 1] > 0.4


def test_figures_are_told_the_section_in_metres(problem):
    assert (
        problem.field_shape == (16, 16)
        and problem.field_extent == (0, 100, 100, 0)
        and problem.field_unit == "m"
    )
    assert problem.data_unit == "ms" and problem.parameter_names[17] == "x[1,1]"


def test_settings_describe_the_problem():
    settings = problem_settings("traveltime", side=12, sources=3, receivers=12, workers=2)
    problem = build_problem("traveltime", **vars(settings))
    assert settings.model_shape == problem.model_shape == (144,)
    assert isinstance(problem.high_fidelity, Workers) and problem.high_fidelity.sources == 3


@pytest.mark.parametrize(
    "change",
    [
        {"side": 3},
        {"spacing_m": 0.0},
        {"sources": 0},
        {"receivers": 17},
        {"std": -1.0},
        {"noise_std": 0.0},
        {"workers": 0},
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(PflowError):
        TravelTime(**change)
