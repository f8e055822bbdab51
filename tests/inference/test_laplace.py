"""The Laplace coordinates of a normal posterior are exactly its own, and NUTS in them finds a
posterior in many dimensions.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.inference.laplace import laplace_coordinates
from pflow.inference.nuts import convergence, run_nuts
from pflow.inference.target import Target
from pflow.problems import Gaussian


def posterior(side):
    problem = Gaussian(side=side)
    _, y = problem.simulate(1, torch.Generator().manual_seed(0), "high", torch.float64)
    return Target(problem, y), problem.exact_posterior(y)


def test_a_normal_posterior_becomes_standard_normal():
    target, exact = posterior(4)
    coordinates = laplace_coordinates(target, torch.Generator().manual_seed(1))
    torch.testing.assert_close(coordinates.centre, exact.mean, atol=1e-3, rtol=0)
    u = coordinates.of_model(exact.sample(20_000, torch.Generator().manual_seed(2)))
    # the prior's covariance is that of draws, 20 for each unknown: coordinates need not be better
    spread = torch.linalg.eigvalsh(torch.cov(u.T))
    assert spread.min() > 0.7 and spread.max() < 1.6
    x = exact.sample(5)
    torch.testing.assert_close(coordinates.model(coordinates.of_model(x)), x)
    assert 16 < target.ledger.evaluations < 500


def test_scores_follow_the_coordinates():
    target, _ = posterior(3)
    coordinates = laplace_coordinates(target, torch.Generator().manual_seed(1))
    u = torch.randn(2, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    step = 1e-5 * torch.eye(9, dtype=torch.float64)
    value = [
        target.evaluate(coordinates.model(u[:1] + sign * step)).log_density for sign in (1, -1)
    ]
    found = coordinates.pull(target.evaluate(coordinates.model(u[:1])).score)[0]
    torch.testing.assert_close(found, (value[0] - value[1]) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_nuts_in_many_dimensions_agrees_with_the_exact_posterior():
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    target, exact = posterior(6)
    start = target.problem.sample_prior(20, torch.Generator().manual_seed(4), torch.float64).numpy()
    chains = run_nuts(target, draws=300, tune=150, chains=2, seed=1, start=start)
    found = convergence(chains)
    assert found["r_hat"] < 1.04 and found["ess_bulk"] > 300 and found["divergent_fraction"] == 0
    x = chains.x.reshape(600, 36)
    np.testing.assert_allclose(x.mean(0), exact.mean, atol=0.3 * float(exact.std.max()))
    np.testing.assert_allclose(x.std(0), exact.std, rtol=0.2)
    assert target.ledger.evaluations < 2 * 450 * 10  # long steps are possible
