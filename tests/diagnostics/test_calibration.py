"""Calibration passes at the nominal rate for the exact posterior and finds each known
miscalibration.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pflow.diagnostics.calibration import coverage_of_ranks, ranks, tarp_distances, uniformity
from pflow.diagnostics.local import local_c2st_p_values
from pflow.diagnostics.novelty import novelty_p_values

PAIRS, DRAWS = 300, 60


def pairs(seed, std=1.0, shift=0.0, n=PAIRS, draws=DRAWS):
    """x ~ N(0, 1), y = x + N(0, 1) in two dimensions, and draws of N(y / 2 + shift', std^2 / 2),
    shift' in posterior std.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, 2))
    y = x + generator.standard_normal((n, 2))
    deviation = np.sqrt(0.5)
    drawn = y[:, None] / 2 + deviation * (shift + std * generator.standard_normal((n, draws, 2)))
    return x, y, drawn, generator


def p_values(seed, **wrong):
    x, _, drawn, generator = pairs(seed, **wrong)
    other = np.roll(x, 1, axis=0)
    sbc = uniformity(ranks(drawn[:, :, 0], x[:, 0], generator), DRAWS)
    tarp = uniformity(ranks(*tarp_distances(drawn, x, other), generator), DRAWS)
    return sbc.p_value, tarp.p_value


def test_the_exact_posterior_passes_at_the_nominal_rate():
    """200 repetitions at the 5 % level: between the 0.1 and 99.9 % points of Binomial(200,
    0.05).
    """
    rejected = (np.array([p_values(seed) for seed in range(200)]) < 0.05).sum(0)
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    assert (rejected >= low).all() and (rejected <= high).all(), rejected


@pytest.mark.parametrize("wrong", [{"std": 0.6}, {"std": 1.6}, {"shift": 0.4}], ids=str)
def test_a_miscalibration_is_found(wrong):
    found = np.array([p_values(seed, **wrong) for seed in range(10)])
    assert (found[:, 0] < 0.01).all()
    # A shift leaves distances to far points the same on average: TARP is weak there
    if "std" in wrong:
        assert (found[:, 1] < 0.05).sum() >= 8


def test_a_gross_miscalibration_is_more_than_unlikely():
    """Simulated p-values end at 1/4001; beyond, the bound over all points still tells 10^-4 from
    10^-20, and is a bound.
    """
    half_the_spread, _ = p_values(0, std=0.5)
    absurd, _ = p_values(0, shift=3.0)
    assert absurd < half_the_spread < 1e-4
    count = 9  # ranks of 9 pairs, all the smallest of 3 + 1: probability 4^-9 under uniformity
    assert 4.0**-count <= uniformity(np.zeros(count, int), 3).p_value <= 6 * 4.0**-count


def test_the_shape_of_the_ranks_tells_what_is_wrong():
    share = {}
    for name, wrong in (("narrow", {"std": 0.6}), ("wide", {"std": 1.6}), ("exact", {})):
        x, _, drawn, generator = pairs(0, n=2000, **wrong)
        rank = ranks(drawn, x, generator)
        share[name] = coverage_of_ranks(rank, DRAWS, 90, generator)
    assert (
        share["narrow"] < 0.75
        and share["wide"] > 0.97
        and share["exact"] == pytest.approx(0.9, abs=0.015)
    )


def test_bands_hold_the_whole_distribution_function_as_often_as_they_say():
    outside = 0
    for seed in range(400):
        rank = np.random.default_rng(seed).integers(0, DRAWS + 1, PAIRS)
        test = uniformity(rank, DRAWS, level=0.1)
        crossed = ((test.empirical < test.low) | (test.empirical > test.high)).any()
        assert crossed == (test.p_value <= 0.1) or abs(test.p_value - 0.1) < 0.01
        outside += crossed
    low, high = binom.ppf([0.001, 0.999], 400, 0.1)
    assert low <= outside <= high


def test_ranks_are_whole_numbers_and_ties_are_broken_at_random():
    generator = np.random.default_rng(0)
    tied = ranks(np.zeros((4000, 9)), np.zeros(4000), generator)
    assert np.bincount(tied, minlength=10).min() > 300
    assert ranks([[1.0, 2.0, 3.0]], [2.5], generator).tolist() == [2]
    with pytest.raises(ValueError, match="from 0 to 5"):
        uniformity([0, 9], 5)


def test_the_local_test_finds_where_a_flow_is_wrong_and_only_there():
    """The latent is too wide for positive y only."""
    right, wrong, nominal = [], [], []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        y, z = generator.standard_normal((600, 2)), generator.standard_normal((600, 2))
        nominal += local_c2st_p_values(z, y, [[0.5, 0.5]], seed=seed)
        here, there = local_c2st_p_values(
            z * np.where(y[:, :1] > 0, 1.5, 1.0), y, [[1.0, 0.0], [-1.0, 0.0]], seed=seed
        )
        wrong.append(here)
        right.append(there)
    assert max(wrong) < 0.01 and np.median(right) > 0.1
    assert np.mean(np.array(nominal) < 0.25) < 0.6 and min(nominal) > 0.001


@pytest.mark.parametrize("size", [2, 16, 150])
def test_an_ordinary_observation_is_not_novel_and_a_distant_one_is(size):
    """p-values of held-out data are uniform or larger; a distant point has the smallest
    possible.
    """
    generator = np.random.default_rng(size)
    mixing = generator.standard_normal((size, size)) * np.linspace(0.1, 3, size)
    train, held, new = (generator.standard_normal((n, size)) @ mixing for n in (600, 400, 25))
    p = np.array(novelty_p_values(new, train, held))
    assert (p < 0.1).mean() < 0.3 and p.mean() > 0.35
    assert novelty_p_values([6 * new[0]], train, held)[0] == pytest.approx(2 / 401)


def test_a_gap_in_the_training_data_is_novel():
    """Data on a ring; the centre is ordinary for any mean and covariance."""
    generator = np.random.default_rng(0)
    angle = generator.uniform(0, 2 * np.pi, 900)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * generator.standard_normal((900, 2))
    assert novelty_p_values([[0.0, 0.0]], ring[:500], ring[500:])[0] < 0.01
