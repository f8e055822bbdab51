"""Full-waveform inversion: the gap between the two fidelities, what flows see, subsets of sources,
and the settings.
"""

from __future__ import annotations

import sys

import pytest
import torch

from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.operators import check_operator
from pflow.problems import Waveform, build_problem
from pflow.problems.normal import linear_gaussian_posterior


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def problem():
    pytest.importorskip("deepwave")
    return Waveform(side=8, sources=3, receivers=4)


def test_the_wave_equation_passes_its_checks(problem):
    results = check_operator(
        problem.high_fidelity, problem.sample_prior(3, seeded(), torch.float64), seeded()
    )
    assert results["taylor_slope"] == pytest.approx(2, abs=0.2)
    assert problem.high_fidelity.sources == 3 and problem.data_shape[:2] == (3, 4)


def test_recordings_in_the_background_have_a_standard_deviation_of_one(problem):
    assert problem.high_fidelity(torch.zeros(1, 64)).std().item() == pytest.approx(1, rel=1e-4)


def test_the_born_approximation_is_the_tangent_of_the_wave_equation(problem):
    check_operator(problem.low_fidelity, problem.sample_prior(3, seeded(), torch.float64), seeded())
    x = problem.sample_prior(8, seeded(), torch.float64)
    slope = (problem.high_fidelity(1e-3 * x) - problem.high_fidelity(-1e-3 * x)) / 2e-3
    change = problem.low_fidelity(x) - problem.low_fidelity(torch.zeros_like(x))
    assert (slope - change).norm() / slope.norm() < 2e-3
    signal = problem.high_fidelity(x) - problem.high_fidelity(torch.zeros_like(x))
    assert 0.1 < (signal - change).norm() / signal.norm() < 0.7  # and not the wave equation itself


def test_flows_see_the_exact_mean_of_the_linear_problem(problem):
    y = problem.low_fidelity(problem.sample_prior(1, seeded(), torch.float64)) + 0.2 * torch.randn(
        1, *problem.data_shape, generator=seeded(1), dtype=torch.float64
    )
    born = problem.low_fidelity
    change = (y - born.background.value).flatten(1)[0]
    exact = linear_gaussian_posterior(
        problem.prior.root, born.jacobian.value.T, problem.noise_std, change
    )
    torch.testing.assert_close(problem.summary(y)[0], exact.mean)
    assert problem.summary_shape == (64,)


def test_random_sources_give_the_posterior_on_average(problem):
    x, y = problem.sample_prior(1, seeded(1)), problem.simulate(1, seeded(2), "high")[1]
    whole = Target(problem, y).evaluate(x)
    scores = torch.cat(
        [Target(problem, y, sources=1, seed=seed).evaluate(x).score for seed in range(40)]
    )
    distinct = torch.stack(
        [
            score
            for k, score in enumerate(scores)
            if not any(torch.equal(score, other) for other in scores[:k])
        ]
    )
    assert len(distinct) == 3
    torch.testing.assert_close(distinct.mean(0), whole.score[0], rtol=1e-3, atol=1e-2)


def test_velocities_beyond_the_time_step_are_not_simulated(problem):
    x = torch.zeros(2, 64)
    x[1, 5] = 0.8
    y = problem.high_fidelity(x)
    assert y[0].isfinite().all() and y[1].isnan().all()


def test_settings_describe_the_problem():
    pytest.importorskip("deepwave")
    settings = problem_settings("waveform", side=6, sources=2, receivers=3)
    problem = build_problem("waveform", **vars(settings))
    assert settings.model_shape == problem.model_shape == (36,)


@pytest.mark.parametrize(
    "change",
    [
        {"side": 3},
        {"spacing_m": 0.0},
        {"sources": 0},
        {"receivers": 17},
        {"std": -1.0},
        {"noise_std": 0.0},
        {"frequency_hz": -1.0},
    ],
)
def test_impossible_settings_are_refused(change):
    pytest.importorskip("deepwave")
    with pytest.raises(PflowError, match="problem|jitter|std"):
        Waveform(**{"side": 6, "sources": 2, "receivers": 2} | change)


def test_without_deepwave_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepwave", None)
    with pytest.raises(PflowError, match=r"pip install 'pflow\[wave\]'"):
        Waveform()
