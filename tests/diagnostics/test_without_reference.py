"""k-hat, predictive misfit, missed mass and weighted coverage, where the answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from pflow.diagnostics.coverage import interval_coverage, missed_by_prior, missed_by_reference
from pflow.diagnostics.pareto import pareto_k
from pflow.diagnostics.predictive import predictive_chi_square
from pflow.diagnostics.summary import against_reference, without_reference
from pflow.problems import Gaussian


def narrow_log_weights(std, n=50_000, seed=0):
    """q = N(0, std^2), p = N(0, 1): the weights have the tail index 1 / (1 - std^2), so k = 1 -
    std^2.
    """
    z = np.random.default_rng(seed).standard_normal(n)
    return -((std * z) ** 2) / 2 + z**2 / 2 + math.log(std)


@pytest.mark.parametrize("std", [0.8, 0.6, 0.4])
def test_pareto_k_is_the_tail_index(std):
    assert pareto_k(narrow_log_weights(std)) == pytest.approx(1 - std**2, abs=0.12)


def test_pareto_k_is_low_for_a_wide_q_and_absent_where_nothing_can_be_fitted():
    z = np.random.default_rng(0).standard_normal(10_000)
    assert pareto_k(-((1.5 * z) ** 2) / 2 + z**2 / 2) < 0.3
    assert pareto_k(np.zeros(1000)) is None
    assert pareto_k(np.full(1000, -np.inf)) is None
    assert pareto_k(np.append(narrow_log_weights(0.8, 1000), -np.inf)) is not None
    with pytest.raises(ValueError, match="log_weight"):
        pareto_k([0.0, np.nan])


def test_exact_posteriors_explain_their_data_as_predicted():
    """Over 300 observations the average misfit is 1 with at most the promised spread, and p-values
    are valid.
    """
    problem = Gaussian(side=3)
    metrics = []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        _, y = problem.simulate(1, generator, "high", torch.float64)
        x = problem.exact_posterior(y).sample(500, generator)
        residual = (y - problem.high_fidelity(x)) / problem.noise_std
        metrics.append(predictive_chi_square(residual.square().mean(1), 9))
    values = np.array([f["predictive_chi_square"] for f in metrics])
    p_values = np.array([f["predictive_p_value"] for f in metrics])
    spread = metrics[0]["predictive_chi_square_spread"]
    assert spread == pytest.approx(math.sqrt(2 / 9))
    assert abs(values.mean() - 1) < 4 * spread / math.sqrt(300) and values.std() < spread
    assert (p_values < 0.1).mean() <= 0.1 and p_values.min() > 0.001


@pytest.mark.parametrize("size", [2, 20, 500])
def test_the_predictive_p_value_bounds_the_tail_of_a_single_draw(size):
    """One draw is the widest average there is, so its own tail probability must be bounded too."""
    for level in (1e-2, 1e-4):
        assert (
            2 * level
            <= predictive_chi_square([chi2.isf(level, size) / size], size)["predictive_p_value"]
            < 500 * level
        )
    assert predictive_chi_square([chi2.isf(1e-9, size) / size], size)["predictive_p_value"] < 1e-6
    assert predictive_chi_square([chi2.ppf(1e-9, size) / size], size)["predictive_p_value"] < 0.1


def test_missed_mass_of_a_half_known_mixture():
    """p = N(-4, 1) / 4 + 3 N(4, 1) / 4 and q only its right part; the prior is N(0, 5^2)."""
    generator = np.random.default_rng(0)
    x = 4 + generator.standard_normal(20_000)

    def log_normal(values, centre=0.0, std=1.0):
        return -0.5 * ((values - centre) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)

    prior = 5 * generator.standard_normal(20_000)
    posterior = np.logaddexp(
        math.log(0.25) + log_normal(prior, -4), math.log(0.75) + log_normal(prior, 4)
    )
    log_likelihood = posterior - log_normal(prior, 0, 5) - 2.0  # log evidence -2
    missed, error = missed_by_prior(
        -2.0 + math.log(0.75), log_normal(x, 4), log_likelihood, log_normal(prior, 4)
    )
    assert missed == pytest.approx(0.25, abs=4 * error) and error < 0.02
    truth = np.concatenate(
        [generator.standard_normal(5000) - 4, generator.standard_normal(15_000) + 4]
    )
    assert missed_by_reference(log_normal(x, 4), log_normal(truth, 4))[0] == pytest.approx(
        0.2508, abs=0.002
    )


def test_interval_coverage_by_reference_and_by_weights_agree():
    generator = np.random.default_rng(0)
    wide, truth = (
        1.5 * generator.standard_normal((40_000, 2)),
        generator.standard_normal((40_000, 2)),
    )
    log_weight = (-0.5 * wide**2 + 0.5 * (wide / 1.5) ** 2).sum(1)
    by_reference, by_weights = (
        interval_coverage(wide, truth),
        interval_coverage(wide, wide, np.exp(log_weight)),
    )
    for percent, expected in ((50, 0.6883), (90, 0.9864), (95, 0.9967)):  # P(|z| < 1.5 z_percent)
        assert by_reference[f"coverage_{percent}"] == pytest.approx(expected, abs=0.01)
        assert by_weights[f"coverage_{percent}"] == pytest.approx(expected, abs=0.01)
    exact = interval_coverage(truth, generator.standard_normal((40_000, 2)))
    assert exact["coverage_90"] == pytest.approx(0.9, abs=0.01)


def test_what_is_not_finite_is_absent_and_counted():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((500, 2))
    log_q = -0.5 * (x**2).sum(1)
    log_weight = np.zeros(500)
    log_weight[:5], log_weight[5:10], x[10:12] = -np.inf, np.nan, np.nan
    metrics = without_reference(x, log_q, log_weight, np.ones(500), 2, score_error=[1.0, np.nan])
    json.dumps(metrics, allow_nan=False)
    assert metrics["zero_weight_fraction"] == pytest.approx(12 / 500)
    assert (
        "elbo_nats" not in metrics
        and "score_error" not in metrics
        and metrics["ess_fraction"] == pytest.approx(488 / 500)
    )
    nothing = without_reference(x, log_q, np.full(500, -np.inf), np.full(500, np.nan), 2)
    assert nothing == {"zero_weight_fraction": 1.0}
    truth = generator.standard_normal((500, 2))
    densities = {
        "log_posterior": np.full(500, -np.inf),
        "log_posterior_of_truth": np.zeros(500),
        "log_evidence_exact": 0.0,
    }
    compared = against_reference(truth, truth, log_q, np.full(500, np.nan), **densities)
    json.dumps(compared, allow_nan=False)
    assert "kl_reverse_nats" not in compared and compared[
        "mean_error_posterior_std"
    ] == pytest.approx(0, abs=1e-12)
