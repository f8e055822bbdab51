"""Two-sample distances: nothing between equal distributions, and the known value between shifted
ones.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from pflow.diagnostics.two_sample import c2st, mmd, quantile_error, sliced_wasserstein, two_sample


def normal(n=4000, size=3, shift=0.0, std=1.0, seed=0):
    return shift + std * np.random.default_rng(seed).standard_normal((n, size))


def test_nothing_between_draws_of_the_same_distribution():
    found = two_sample(normal(seed=1), normal(seed=2))
    assert abs(found["c2st"] - 0.5) < 0.03
    assert (
        found["mmd"] < 0.06
        and found["sliced_wasserstein"] < 0.05
        and found["quantile_error_posterior_std"] < 0.05
    )


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_the_classifier_reaches_the_best_accuracy_between_shifted_normals(shift):
    """The best classifier cuts halfway: accuracy Phi(sqrt(size) shift / 2)."""
    best = norm.cdf(math.sqrt(3) * shift / 2)
    assert best - 0.04 < c2st(normal(shift=shift, seed=1), normal(seed=2)) < best + 0.03


def test_the_classifier_sees_spread_and_a_bend_with_equal_moments():
    assert c2st(normal(std=0.5, seed=1), normal(seed=2)) > 0.75
    ring = normal(size=2, seed=1)
    ring = (
        math.sqrt(2)
        * ring
        / np.linalg.norm(ring, axis=1, keepdims=True)
        * (1 + 0.05 * normal(size=1, seed=3))
    )
    assert c2st(ring, normal(size=2, seed=2)) > 0.75


def test_transport_and_quantiles_have_the_known_size():
    far, near = normal(20_000, shift=1.0, seed=1), normal(20_000, seed=2)
    # A random direction u sees the shift |sum u|, on average sqrt(3) E|u_1| = sqrt(3) / 2 in three
    # dimensions.
    assert sliced_wasserstein(far, near, directions=400) == pytest.approx(
        math.sqrt(3) / 2, rel=0.06
    )
    assert quantile_error(far, near) == pytest.approx(1.0, abs=0.03)
    assert quantile_error(1000 * far, 1000 * near) == pytest.approx(quantile_error(far, near))
    assert mmd(far, near) > 5 * mmd(normal(shift=0.1, seed=1), near)


@pytest.mark.parametrize("bad", [normal(10), normal(size=2), np.full((100, 3), np.nan)])
def test_what_cannot_be_compared_is_refused(bad):
    with pytest.raises(ValueError, match="draws"):
        two_sample(bad, normal())
