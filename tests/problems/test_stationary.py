"""Stationary Gaussian images: densities against dense matrices, posteriors against dense linear
algebra, both ways of solving.
"""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import dense_matrix
from pflow.operators.romberg import RombergOperator
from pflow.problems.stationary import (
    StationaryGaussian,
    StationaryPosterior,
    conjugate_gradients,
    estimate_spectrum,
)

SHAPE = (1, 6, 8)
SIZE = 48


@pytest.fixture(scope="module")
def prior() -> StationaryGaussian:
    kz, kx = torch.fft.fftfreq(6).double()[:, None], torch.fft.fftfreq(8).double()[None]
    return StationaryGaussian((0.05 + torch.exp(-20 * kz**2 - 60 * kx**2))[None])


def covariance(prior: StationaryGaussian) -> torch.Tensor:
    return prior.covariance_times(torch.eye(SIZE, dtype=torch.float64).view(SIZE, *SHAPE)).flatten(
        1
    )


def normal_log_density(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.distributions.MultivariateNormal(
        torch.zeros(len(matrix)).to(matrix), matrix
    ).log_prob(x)


def test_density_is_that_of_the_dense_covariance(prior):
    x = torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        prior.log_density(x), normal_log_density(x.flatten(1), covariance(prior))
    )


def test_samples_have_that_covariance_and_the_spectrum_is_found_again(prior):
    draws = prior.sample(20000, torch.Generator().manual_seed(1))
    expected = covariance(prior)
    assert (
        (draws.flatten(1).T @ draws.flatten(1)) / len(draws) - expected
    ).abs().max() < 0.05 * expected.max()
    assert (estimate_spectrum(draws) / prior.spectrum - 1).abs().max() < 0.06


def test_a_frequency_that_is_never_seen_keeps_a_floor():
    images = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    spectrum = estimate_spectrum(images - images.mean((2, 3), keepdim=True))
    assert spectrum[0, 0, 0] == pytest.approx(1e-3 * float(spectrum.mean()), rel=0.01)


@pytest.fixture(scope="module", params=[False, True], ids=["images", "measurements"])
def case(request, prior):
    operator = RombergOperator(SHAPE, 2.0, seed=4, measurements=request.param)
    y = torch.randn(
        operator.data_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    matrix, sigma = dense_matrix(operator), 0.3
    precision = torch.linalg.inv(covariance(prior)) + matrix.T @ matrix / sigma**2
    exact = torch.linalg.inv(precision)
    return operator, y, sigma, exact @ matrix.T @ y.reshape(-1) / sigma**2, exact


@pytest.mark.parametrize("dense", [4096, 0], ids=["cholesky", "conjugate gradients"])
def test_posterior_moments_are_those_of_dense_linear_algebra(case, prior, dense):
    operator, y, sigma, mean, exact = case
    posterior = StationaryPosterior(prior, operator, sigma, y, dense=dense)
    torch.testing.assert_close(posterior.mean.reshape(-1), mean)
    torch.testing.assert_close(
        posterior.std.reshape(-1), exact.diagonal().sqrt(), rtol=1e-6 if dense else 0.1, atol=0
    )
    draws = posterior.sample(6000, torch.Generator().manual_seed(5)).flatten(1)
    assert (draws.mean(0) - mean).abs().max() < 5 * float(
        exact.diagonal().max().sqrt()
    ) / math.sqrt(6000)
    assert (draws.T.cov() - exact).abs().max() < 0.08 * exact.max()


def test_evidence_and_density_are_normalised(case, prior):
    operator, y, sigma, mean, exact = case
    posterior = StationaryPosterior(prior, operator, sigma, y)
    matrix = dense_matrix(operator)
    k = matrix @ covariance(prior) @ matrix.T + sigma**2 * torch.eye(len(matrix)).double()
    assert posterior.log_evidence == pytest.approx(
        float(normal_log_density(y.reshape(-1), (k + k.T) / 2)), abs=1e-8
    )
    x = posterior.sample(4, torch.Generator().manual_seed(6))
    torch.testing.assert_close(
        posterior.log_density(x), normal_log_density(x.flatten(1) - mean, (exact + exact.T) / 2)
    )


def test_without_a_factor_the_density_says_why_it_is_unknown(case, prior):
    operator, y, sigma, *_ = case
    posterior = StationaryPosterior(prior, operator, sigma, y, dense=0)
    assert posterior.log_evidence is None
    with pytest.raises(PflowError, match="not normalised"):
        posterior.log_density(torch.zeros(1, *SHAPE))


def test_conjugate_gradients_say_when_they_fail():
    scale = torch.logspace(0, -12, 30, dtype=torch.float64)
    with pytest.raises(PflowError, match="in 3 steps"):
        conjugate_gradients(lambda v: scale * v, torch.ones(2, 30, dtype=torch.float64), steps=3)


def test_conjugate_gradients_need_few_steps_for_any_spectrum(monkeypatch):
    """A spectrum over five orders of magnitude takes hundreds without a preconditioner."""
    rows, columns = torch.meshgrid(torch.fft.fftfreq(32), torch.fft.fftfreq(32), indexing="ij")
    steep = StationaryGaussian((1e-3 + 100 * torch.exp(-80 * (rows**2 + columns**2)))[None])
    operator = RombergOperator((1, 32, 32), 2.0, seed=4)
    y = operator(steep.sample(1, torch.Generator().manual_seed(1)))[0]
    steps = []

    def counted(times, data):
        return conjugate_gradients(lambda v: steps.append(1) or times(v), data)

    monkeypatch.setattr("pflow.problems.stationary.conjugate_gradients", counted)
    mean = StationaryPosterior(steep, operator, 0.1, y, dense=0).mean
    assert len(steps) < 60
    torch.testing.assert_close(
        mean, StationaryPosterior(steep, operator, 0.1, y).mean, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("dense", [0, 4096])
def test_all_draws_are_told(case, prior, dense):
    """Those that were asked for, and those that standard deviations need without a factor."""
    operator, y = case[:2]
    posterior = StationaryPosterior(prior, operator, 0.3, y, dense=dense)
    posterior.at_once, told = 7, []
    posterior.tell = told.append
    posterior.sample(20, torch.Generator().manual_seed(0))
    assert told == [7, 7, 6]
    assert posterior.std.shape == SHAPE
    assert sum(told) == 20 + posterior.moment_draws
    assert bool(posterior.moment_draws) == (not dense)
