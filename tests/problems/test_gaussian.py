"""The Gaussian field and its posterior against textbook formulas."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.operators import dense_matrix
from pflow.problems import Gaussian
from pflow.problems.normal import linear_gaussian_posterior


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def covariance(problem):
    return problem.prior.root @ problem.prior.root.T


class RoughGaussian(Gaussian):
    jitter = 0.05


class SmoothGaussian(Gaussian):
    jitter = 1e-8


def test_prior_covariance_is_the_kernel_plus_jitter():
    c = covariance(RoughGaussian(side=3, length=2.0))
    assert c[0, 0].item() == pytest.approx(1.05)
    assert c[0, 2].item() == pytest.approx(math.exp(-4 / 8))  # (0, 0) and (0, 2)
    assert c[1, 6].item() == pytest.approx(math.exp(-5 / 8))  # (0, 1) and (2, 0)


def test_the_matrices_are_those_of_the_prototype():
    """Draws in float64 would give other matrices for the same seed."""
    side = 8
    grid = (
        torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1)
        .reshape(-1, 2)
        .float()
    )
    c = torch.exp(-(grid[:, None] - grid[None]).square().sum(-1) / (2 * 1.5**2)) + 1e-2 * torch.eye(
        side**2
    )
    b = 0.8 * torch.eye(side**2) + 0.5 * torch.randn(side**2, side**2, generator=seeded(3)) / side
    problem = Gaussian()
    torch.testing.assert_close(covariance(problem).float(), c)
    torch.testing.assert_close(dense_matrix(problem.high_fidelity).float(), b)
    torch.testing.assert_close(dense_matrix(problem.low_fidelity).float(), torch.eye(side**2))


def test_prior_draws_and_density_belong_to_the_same_distribution():
    problem = Gaussian(side=3)
    expected = torch.distributions.MultivariateNormal(
        torch.zeros(9, dtype=torch.float64), covariance(problem)
    )
    x = problem.sample_prior(100_000, seeded(), torch.float64)
    torch.testing.assert_close(problem.log_prior(x[:100]), expected.log_prob(x[:100]))
    torch.testing.assert_close(
        problem.log_prior(x[:100].float()).double(),
        expected.log_prob(x[:100]),
        rtol=1e-4,
        atol=1e-4,
    )
    torch.testing.assert_close(torch.cov(x.T), covariance(problem), rtol=0, atol=0.03)


@pytest.mark.parametrize("fidelity", ["low", "high"])
def test_posterior_against_the_formulas_in_data_space(fidelity):
    problem = Gaussian(side=4, noise_std=0.3)
    _, y = problem.simulate(1, seeded(1), fidelity, torch.float64)
    posterior = problem.exact_posterior(y, fidelity)
    c, a = covariance(problem), dense_matrix(problem.operator(fidelity))
    data_covariance = a @ c @ a.T + 0.3**2 * torch.eye(16, dtype=torch.float64)
    gain = torch.linalg.solve(data_covariance, a @ c).T
    torch.testing.assert_close(posterior.mean, gain @ y[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(posterior.covariance, c - gain @ a @ c, rtol=1e-9, atol=1e-9)
    evidence = torch.distributions.MultivariateNormal(
        torch.zeros(16, dtype=torch.float64), data_covariance
    ).log_prob(y[0])
    assert posterior.log_evidence == pytest.approx(evidence.item(), rel=1e-10)
    x = posterior.sample(100, seeded(2))
    expected = torch.distributions.MultivariateNormal(
        posterior.mean, posterior.covariance
    ).log_prob(x)
    torch.testing.assert_close(posterior.log_density(x), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("data", [1, 9, 14])
def test_posterior_with_fewer_or_more_data_than_unknowns(data):
    problem, a = Gaussian(side=3), randn(data, 9)
    y = randn(data, seed=1)
    posterior = linear_gaussian_posterior(problem.prior.root, a, 0.4, y)
    precision = torch.linalg.inv(covariance(problem)) + a.T @ a / 0.4**2
    torch.testing.assert_close(
        posterior.covariance, torch.linalg.inv(precision), rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(
        posterior.mean, torch.linalg.solve(precision, a.T @ y / 0.4**2), rtol=1e-8, atol=1e-8
    )


def test_standardised_draws_are_standard_normal():
    posterior = Gaussian(side=2).exact_posterior(randn(1, 4))
    n = 20_000
    z = (posterior.sample(n, seeded(3)) - posterior.mean) / posterior.std
    rank = torch.special.ndtr(z).sort(0).values
    uniform = (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n
    assert (rank - uniform).abs().max() * math.sqrt(n) < 1.95  # Kolmogorov-Smirnov, 0.1 %


def test_large_grids_are_quick_and_accurate():
    """32 x 32: mean squared whitened draws have their chi-square distribution, and Bayes' rule
    holds to rounding.
    """
    problem = Gaussian(side=32)
    x, y = problem.simulate(4, seeded(), "high", torch.float64)
    posterior = problem.exact_posterior(y[:1])
    bayes = (
        problem.log_likelihood(y[:1], problem.high_fidelity(x))
        + problem.log_prior(x)
        - posterior.log_evidence
    )
    torch.testing.assert_close(posterior.log_density(x), bayes, rtol=1e-9, atol=1e-6)
    draws = posterior.sample(200, seeded(1))
    chi_square = -2 * (posterior.log_density(draws) - posterior.log_density(posterior.mean[None]))
    assert chi_square.mean().item() == pytest.approx(1024, abs=4 * math.sqrt(2 * 1024 / 200))


def test_weak_jitter_keeps_the_posterior_exact():
    """The prior is nearly singular (condition number 1e9): the whitened formulas do not mind."""
    problem = SmoothGaussian(side=5, length=3.0)
    _, y = problem.simulate(1, seeded(), "high", torch.float64)
    posterior = problem.exact_posterior(y)
    c, a = covariance(problem), dense_matrix(problem.high_fidelity)
    data_covariance = a @ c @ a.T + 0.4**2 * torch.eye(25, dtype=torch.float64)
    torch.testing.assert_close(
        posterior.mean, c @ a.T @ torch.linalg.solve(data_covariance, y[0]), rtol=1e-9, atol=1e-9
    )
    x = posterior.sample(20, seeded(1))
    bayes = (
        problem.log_likelihood(y, problem.high_fidelity(x))
        + problem.log_prior(x)
        - posterior.log_evidence
    )
    torch.testing.assert_close(posterior.log_density(x), bayes, rtol=1e-7, atol=1e-5)
