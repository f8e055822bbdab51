"""The posterior of a linear F that was learnt, against the exact one."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.linear.operator_range import OperatorRange
from pflow.objectives.linear.posterior import LinearPosterior, gaussian_posterior, prior_and_score
from pflow.problems.prior_override import PriorOverride
from pflow.problems.seismic import Seismic
from pflow.problems.stationary import StationaryGaussian

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def problem():
    rows, columns = torch.meshgrid(torch.fft.fftfreq(8), torch.fft.fftfreq(8), indexing="ij")
    spectrum = 0.02 + torch.exp(-20 * (rows**2 + columns**2))
    return PriorOverride(Seismic(height=8, width=8), StationaryGaussian(spectrum[None].double()))


@pytest.fixture(scope="module")
def y(problem):
    return problem.simulate(1, torch.Generator().manual_seed(0), "high")[1].double()


def learnt(problem, y, count):
    """What `count` evaluations tell, in whitened data, and log L at the first of them."""
    x = problem.sample_prior(count, torch.Generator().manual_seed(2), torch.float64)
    x.requires_grad_()
    prediction = problem.high_fidelity(x)
    value = problem.log_likelihood(y, prediction)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    known = OperatorRange(y.flatten() / problem.noise_std)
    w = prediction.detach().flatten(1) / problem.noise_std
    known.learn(x.detach().flatten(1), w, gradient.flatten(1))
    return known, float(value[0].detach())


def test_value_and_score_are_those_of_the_posterior(problem, y):
    known, first = learnt(problem, y, 40)
    posterior = LinearPosterior(problem, known, first)
    x = problem.sample_prior(5, torch.Generator().manual_seed(3), torch.float64).requires_grad_()
    expected = problem.log_likelihood(y, problem.high_fidelity(x)) + problem.log_prior(x)
    value, score = posterior.value_and_score(x)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(score, torch.autograd.grad(expected.sum(), x)[0])


def covariance_and_root(problem, directions, variances):
    root = problem.prior.root_times(torch.eye(64, dtype=torch.float64).view(-1, *SHAPE)).flatten(1)
    white = torch.eye(64, dtype=torch.float64) + (directions * (variances - 1)) @ directions.T
    return root @ white @ root, root


def test_the_gaussian_posterior_is_exact(problem, y):
    known, _ = learnt(problem, y, 40)
    mean, *spread = gaussian_posterior(known, problem.prior)
    covariance, root = covariance_and_root(problem, *spread)
    operator = problem.high_fidelity(torch.eye(64, dtype=torch.float64).view(-1, *SHAPE))
    operator = operator.flatten(1).T
    precision = torch.linalg.inv(root @ root) + operator.T @ operator / problem.noise_std**2
    expected = torch.linalg.inv(precision)
    torch.testing.assert_close(covariance, expected)
    exact = expected @ (operator.T @ y.flatten()) / problem.noise_std**2
    torch.testing.assert_close(root @ mean, exact)
    assert len(spread[1]) == 32  # half of the entries are recorded


def test_what_was_not_seen_leaves_the_posterior_too_wide(problem, y):
    """Never too narrow: its covariance is at least the exact one in every direction."""
    covariances = []
    for count in (10, 40):
        known, _ = learnt(problem, y, count)
        _, *spread = gaussian_posterior(known, problem.prior)
        covariances.append(covariance_and_root(problem, *spread)[0])
    assert float(torch.linalg.eigvalsh(covariances[0] - covariances[1]).min()) > -1e-9
    assert covariances[0].trace() > 1.1 * covariances[1].trace()


def test_few_evaluations_give_the_posterior_of_a_part_of_the_data(problem, y):
    """Of Q^T w, exactly."""
    known, _ = learnt(problem, y, 10)
    mean, *spread = gaussian_posterior(known, problem.prior)
    covariance, root = covariance_and_root(problem, *spread)
    operator = problem.high_fidelity(torch.eye(64, dtype=torch.float64).view(-1, *SHAPE))
    part = known.basis.T @ operator.flatten(1).T / problem.noise_std
    expected = torch.linalg.inv(torch.linalg.inv(root @ root) + part.T @ part)
    torch.testing.assert_close(covariance, expected)
    seen = known.basis.T @ y.flatten() / problem.noise_std
    torch.testing.assert_close(root @ mean, expected @ part.T @ seen)


def test_the_root_of_a_stationary_prior_gives_its_covariance(problem):
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    twice = problem.prior.root_times(problem.prior.root_times(x))
    torch.testing.assert_close(twice, problem.prior.covariance_times(x))


def test_the_score_of_the_prior_is_its_gradient(problem):
    x = problem.sample_prior(2, torch.Generator().manual_seed(4), torch.float64)
    value, score = prior_and_score(problem, x)
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-5
    ahead, behind = (problem.log_prior(x + sign * step * along) for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / (2 * step), (score * along).flatten(1).sum(1))
    torch.testing.assert_close(value, problem.log_prior(x))
