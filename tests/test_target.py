"""The unnormalised posterior: its score is its gradient, and every evaluation is counted."""

from __future__ import annotations

import torch

from pflow.problems import build_problem
from pflow.target import Target


def test_density_and_score_against_finite_differences_and_the_exact_posterior():
    problem, generator = build_problem("rosenbrock"), torch.Generator().manual_seed(0)
    y = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    target = Target(problem, y)
    x = problem.sample_prior(5, generator, torch.float64)
    found = target.evaluate(x)
    exact = problem.exact_posterior(y)
    torch.testing.assert_close(found.log_density, exact.log_density(x) + exact.log_evidence, rtol=1e-8, atol=1e-8)
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-5
        slope = (target.predict(x + step)[1] - target.predict(x - step)[1]) / 2e-5
        torch.testing.assert_close(found.score[:, i], slope, rtol=1e-6, atol=1e-6)
    assert target.ledger.evaluations == 5
    assert target.ledger.forwards == 20
