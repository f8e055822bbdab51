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
    known = OperatorRange()
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


def test_the_gaussian_posterior_is_exact(problem, y):
    known, _ = learnt(problem, y, 40)
    root = problem.prior.root()
    mean, posterior_root = gaussian_posterior(known, torch.zeros_like(root[0]), root)
    operator = problem.high_fidelity(torch.eye(64, dtype=torch.float64).view(-1, *SHAPE))
    operator = operator.flatten(1).T
    precision = torch.linalg.inv(root @ root.T) + operator.T @ operator / problem.noise_std**2
    covariance = torch.linalg.inv(precision)
    expected = covariance @ (operator.T @ y.flatten()) / problem.noise_std**2
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(posterior_root @ posterior_root.T, covariance)


def test_what_was_not_seen_leaves_the_posterior_too_wide(problem, y):
    """Never too narrow: its covariance is at least the exact one in every direction."""
    root = problem.prior.root()
    covariances = []
    for count in (10, 40):
        known, _ = learnt(problem, y, count)
        part = gaussian_posterior(known, torch.zeros_like(root[0]), root)[1]
        covariances.append(part @ part.T)
    assert float(torch.linalg.eigvalsh(covariances[0] - covariances[1]).min()) > -1e-9
    assert covariances[0].trace() > 1.1 * covariances[1].trace()


def test_the_root_of_a_stationary_prior_gives_its_covariance(problem):
    root = problem.prior.root()
    identity = torch.eye(64, dtype=torch.float64).view(-1, *SHAPE)
    torch.testing.assert_close(root @ root, problem.prior.covariance_times(identity).flatten(1))


def test_the_score_of_the_prior_is_its_gradient(problem):
    x = problem.sample_prior(2, torch.Generator().manual_seed(4), torch.float64)
    value, score = prior_and_score(problem, x)
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-5
    ahead, behind = (problem.log_prior(x + sign * step * along) for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / (2 * step), (score * along).flatten(1).sum(1))
    torch.testing.assert_close(value, problem.log_prior(x))
