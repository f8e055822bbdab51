"""The lognormal problem: nearly linear for a small strength, and Bayes' rule at work for any."""

from __future__ import annotations

import torch

from pflow.operators.checks import check_operator
from pflow.problems import build_problem


def test_small_strength_is_the_gaussian_problem():
    linear, nearly = (
        build_problem("gaussian", side=3),
        build_problem("lognormal", side=3, strength=1e-6),
    )
    x = linear.sample_prior(10, torch.Generator().manual_seed(0), torch.float64)
    torch.testing.assert_close(
        nearly.high_fidelity(x), linear.high_fidelity(x), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(nearly.log_prior(x), linear.log_prior(x))


def test_operator_passes_its_checks_and_is_nonlinear():
    problem = build_problem("lognormal", side=3)
    x = problem.sample_prior(4, torch.Generator().manual_seed(0), torch.float64)
    results = check_operator(problem.high_fidelity, x, torch.Generator().manual_seed(1))
    assert not results["linear"] and abs(results["taylor_slope"] - 2) < 0.2
    assert problem.exact_posterior(problem.high_fidelity(x[:1])) is None
