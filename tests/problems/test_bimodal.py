"""The bimodal problem: its quadrature against another one, its sampler against its density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pflow.problems import build_problem

Y = torch.tensor([[1.9, 0.3]], dtype=torch.float64)


def joint(problem, x):
    return problem.log_likelihood(Y, problem.high_fidelity(x)) + problem.log_prior(x)


@pytest.mark.long
def test_evidence_and_moments_against_adaptive_quadrature():
    problem = build_problem("bimodal")
    exact = problem.exact_posterior(Y)

    def density(second, first):
        return float(joint(problem, torch.tensor([[first, second]], dtype=torch.float64)).exp())

    half, _ = integrate.dblquad(density, 0, 4, -2, 3, epsabs=1e-10, epsrel=1e-8)
    np.testing.assert_allclose(exact.log_evidence, np.log(2 * half), atol=1e-7)
    assert abs(float(exact.mean[0])) < 1e-9
    second, _ = integrate.dblquad(
        lambda b, a: a**2 * density(b, a), 0, 4, -2, 3, epsabs=1e-10, epsrel=1e-8
    )
    np.testing.assert_allclose(float(exact.covariance[0, 0]), second / half, rtol=1e-6)


def test_draws_follow_the_density():
    exact = build_problem("bimodal").exact_posterior(Y)
    x = exact.sample(20_000, torch.Generator().manual_seed(0))
    assert abs(float((x[:, 0] > 0).double().mean()) - 0.5) < 0.015
    axis = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    table = exact.log_density(torch.cartesian_prod(axis, axis)).exp().view(2001, 2001)
    for i in range(2):
        distribution = table.sum(1 - i).cumsum(0)
        distribution = distribution / distribution[-1]
        assert (
            stats.kstest(
                x[:, i].numpy(), lambda v, d=distribution: np.interp(v, axis + 0.002, d)
            ).pvalue
            > 0.01
        )


def test_both_signs_are_equally_likely_and_separated():
    exact = build_problem("bimodal").exact_posterior(Y)
    points = torch.tensor([[1.3, 0.3], [-1.3, 0.3], [0.0, 0.3]], dtype=torch.float64)
    right, left, between = exact.log_density(points)
    assert torch.isclose(right, left) and right - between > 10
