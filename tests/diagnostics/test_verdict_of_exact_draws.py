"""Exact draws in place of a method's draws are never "do not use", and "trustworthy" beside a
reference: for every built-in problem with an exact posterior, at noisy and at noise-free data.
"""

from __future__ import annotations

import pytest
import torch

from pflow.diagnostics.summary import against_reference, without_reference
from pflow.diagnostics.verdict import DO_NOT_USE, TRUSTWORTHY, WITH_CARE, judge
from pflow.problems import PROBLEMS, Problem, build_problem
from tests.support.posterior_cases import RULES

SMALL = {"gaussian": {"side": 8, "noise_std": 1.0}}  # most of its data are noise
KNOWN = [
    name
    for name, problem in PROBLEMS.items()
    if problem.exact_posterior is not Problem.exact_posterior
]
DRAWS = 1000


def judged(name: str, seed: int, noise: float, fine_tuned: bool, with_reference: bool):
    """The verdict on exact draws, at data with `noise` times the noise that is assumed."""
    problem = build_problem(name, **SMALL.get(name, {}))
    random = torch.Generator().manual_seed(seed)
    x_true, noisy = problem.simulate(1, random, "high", torch.float64)
    prediction = problem.high_fidelity(x_true)
    y = prediction + noise * (noisy - prediction)
    exact = problem.exact_posterior(y)
    x, truth = exact.sample(DRAWS, random), exact.sample(DRAWS, random)
    prediction, prior = problem.high_fidelity(x), problem.sample_prior(2000, random, torch.float64)
    log_q = exact.log_density(x)
    metrics = without_reference(
        x,
        log_q,
        problem.log_likelihood(y, prediction) + problem.log_prior(x) - log_q,
        ((y - prediction) / problem.noise_std).square().mean(1),
        y.numel(),
        score_error=torch.zeros(100),
        prior_log_likelihood=problem.log_likelihood(y, problem.high_fidelity(prior)),
        prior_log_q=exact.log_density(prior),
    )
    if with_reference:
        metrics |= against_reference(
            x, truth, log_q, exact.log_density(truth), mean=exact.mean, std=exact.std
        )
    return judge(
        metrics,
        RULES,
        unknowns=x[0].numel(),
        fine_tuned=fine_tuned,
        linear=problem.high_fidelity.linear,
    )


def test_there_are_problems_with_an_exact_posterior():
    assert {"rosenbrock", "gaussian", "bimodal"} <= set(KNOWN)


@pytest.mark.parametrize("noise", [1.0, 0.0], ids=["noisy", "noise-free"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", KNOWN)
def test_exact_draws_are_never_condemned(name: str, seed: int, noise: float):
    for fine_tuned in (True, False):
        alone = judged(name, seed, noise, fine_tuned, with_reference=False)
        assert alone.verdict != DO_NOT_USE, alone.reasons
        beside = judged(name, seed, noise, fine_tuned, with_reference=True)
        assert beside.verdict == TRUSTWORTHY, beside.reasons


def test_a_small_chi_square_is_still_told():
    """Sixty-four noise-free data: most improbable under the noise that is assumed."""
    judgement = judged("gaussian", 0, 0.0, fine_tuned=True, with_reference=True)
    assert any("fit better than the assumed noise allows" in reason for reason in judgement.reasons)
    alone = judged("gaussian", 0, 0.0, fine_tuned=True, with_reference=False)
    assert alone.verdict == WITH_CARE
