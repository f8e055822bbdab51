"""Importance diagnostics where the answer is known: normal q against a normal posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pflow.diagnostics.importance import effective_sample_size_fraction, elbo, log_evidence

ALL = [effective_sample_size_fraction, log_evidence, elbo]
LOG_EVIDENCE = -3.7


def log_weights(shift=0.0, scale=1.0, n=200_000, seed=0):
    """Draws of q = N(shift, scale^2), p~ = exp(LOG_EVIDENCE) N(0, 1)."""
    z = np.random.default_rng(seed).standard_normal(n)
    x = shift + scale * z
    return LOG_EVIDENCE - x**2 / 2 + z**2 / 2 + math.log(scale)


def test_a_perfect_q_has_full_effective_size_and_no_error():
    log_weight = log_weights()
    assert effective_sample_size_fraction(log_weight) == pytest.approx(1, abs=1e-12)
    assert log_evidence(log_weight) == pytest.approx((LOG_EVIDENCE, 0), abs=1e-12)
    assert elbo(log_weight) == pytest.approx((LOG_EVIDENCE, 0), abs=1e-12)


def test_a_shifted_q_has_the_known_values():
    """q = N(s, 1): E w^2 / (E w)^2 = exp(s^2), KL(q, p) = s^2 / 2."""
    log_weight = log_weights(shift=0.7)
    assert effective_sample_size_fraction(log_weight) == pytest.approx(math.exp(-0.49), rel=0.02)
    estimate, error = log_evidence(log_weight)
    assert abs(estimate - LOG_EVIDENCE) < 4 * error and error == pytest.approx(
        math.sqrt(math.expm1(0.49) / 200_000), rel=0.02
    )
    estimate, error = elbo(log_weight)
    assert abs(estimate - (LOG_EVIDENCE - 0.245)) < 4 * error and error == pytest.approx(
        0.7 / math.sqrt(200_000), rel=0.02
    )


@pytest.mark.parametrize("estimator", [log_evidence, elbo])
def test_standard_errors_are_the_spread_over_repetitions(estimator):
    runs = np.array([estimator(log_weights(0.3, 0.9, n=500, seed=seed)) for seed in range(400)])
    assert runs[:, 0].std() == pytest.approx(runs[:, 1].mean(), rel=0.15)


@pytest.mark.parametrize("offset", [-1e5, 1e5])
def test_huge_offsets_cancel(offset):
    log_weight = log_weights(shift=0.5, n=1000)
    fraction = effective_sample_size_fraction(log_weight)
    assert effective_sample_size_fraction(log_weight + offset) == pytest.approx(fraction, rel=1e-6)
    for estimator in (log_evidence, elbo):
        estimate, error = estimator(log_weight)
        assert estimator(log_weight + offset) == pytest.approx((estimate + offset, error), rel=1e-6)


def test_weights_of_zero_are_legal():
    log_weight = [0.0, 0.0, -np.inf, -np.inf]
    assert effective_sample_size_fraction(log_weight) == 0.5
    estimate, error = log_evidence(log_weight)
    assert estimate == pytest.approx(math.log(0.5))
    assert error == pytest.approx(math.sqrt(1 / 3) / math.sqrt(4) / 0.5)
    assert elbo(log_weight) == (-np.inf, np.inf)


def test_one_draw_carrying_everything():
    assert effective_sample_size_fraction([0.0, -1e6, -1e6, -1e6]) == 0.25


@pytest.mark.parametrize("diagnostic", ALL)
@pytest.mark.parametrize(
    ("log_weight", "message"),
    [
        ([0.0, np.nan, 1.0], r"finite or -inf, and 1 of 3 values are not \(the first: nan\)"),
        ([0.0, np.inf], "finite or -inf, and 1 of 2"),
        ([-np.inf, -np.inf], "all are -inf"),
        ([], "at least"),
        ([[0.0, 1.0]], r"must be a vector .* has shape \(1, 2\)"),
    ],
)
def test_what_is_no_weight_is_refused(diagnostic, log_weight, message):
    with pytest.raises(ValueError, match=message):
        diagnostic(log_weight)


@pytest.mark.parametrize("diagnostic", [log_evidence, elbo])
def test_one_draw_has_no_standard_error(diagnostic):
    with pytest.raises(ValueError, match="at least 2 draws"):
        diagnostic([0.0])


def test_results_are_plain_numbers():
    """They go to JSON."""
    log_weight = log_weights(0.2, n=10).astype(np.float32)
    values = [
        effective_sample_size_fraction(log_weight),
        *log_evidence(log_weight),
        *elbo(log_weight),
    ]
    assert {type(value) for value in values} == {float}
