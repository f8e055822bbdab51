"""Divergences between normal distributions, where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pflow.diagnostics.divergence import forward_kl, reverse_kl


def normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def exact_kl(mean_a, std_a, mean_b, std_b):
    return math.log(std_b / std_a) + (std_a**2 + (mean_a - mean_b) ** 2) / (2 * std_b**2) - 0.5


Q, P = (0.3, 0.8), (0.0, 1.1)


def estimate(kl, a, b, n, seed=0):
    x = a[0] + a[1] * np.random.default_rng(seed).standard_normal(n)
    return kl(normal(x, *a), normal(x, *b))


@pytest.mark.parametrize(("kl", "a", "b"), [(reverse_kl, Q, P), (forward_kl, P, Q)])
def test_divergence_and_its_error(kl, a, b):
    value, error = estimate(kl, a, b, 100_000)
    assert 0 < error < 0.01 and abs(value - exact_kl(*a, *b)) < 4 * error
    runs = np.array([estimate(kl, a, b, 200, seed) for seed in range(400)])
    assert runs[:, 0].std() == pytest.approx(runs[:, 1].mean(), rel=0.15)


def test_the_two_directions_differ():
    assert exact_kl(*Q, *P) != pytest.approx(exact_kl(*P, *Q), rel=0.1)


@pytest.mark.parametrize("kl", [reverse_kl, forward_kl])
def test_missing_mass_is_infinitely_far(kl):
    assert kl([0.0, 0.0], [0.0, -np.inf]) == (np.inf, np.inf)


@pytest.mark.parametrize(
    ("kl", "first", "second"),
    [(reverse_kl, "log_q", "log_posterior"), (forward_kl, "log_posterior", "log_q")],
)
def test_mistakes_are_named(kl, first, second):
    with pytest.raises(ValueError, match=f"`{first}` must be finite, and 1 of 2"):
        kl([0.0, -np.inf], [0.0, 0.0])  # A draw has density zero under what it was drawn from.
    with pytest.raises(ValueError, match=f"`{second}` must be finite or -inf"):
        kl([0.0, 0.0], [0.0, np.nan])
    with pytest.raises(ValueError, match="must belong to the same draws, and there are 2 and 3"):
        kl([0.0, 0.0], [0.0, 0.0, 0.0])


def test_results_are_plain_numbers():
    assert {
        type(value) for value in reverse_kl(np.zeros(3, np.float32), np.ones(3, np.float32))
    } == {float}
