"""On the Gaussian problem: the exact posterior passes at the nominal rate, over- and
under-dispersed and shifted ones are found.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.stats import binom

from pflow.diagnostics.pair_ranks import calibration_numbers, other_truths, rank_columns
from pflow.problems.gaussian import Gaussian

PAIRS, DRAWS, REPETITIONS, SIDE = 60, 40, 200, 2


class ExactPosteriors:
    """x, y, and draws of p(x given y) of the Gaussian problem: mean m + K y and one covariance,
    read off `exact_posterior`.
    """

    def __init__(self) -> None:
        self.problem = Gaussian(side=SIDE)
        size = SIDE**2
        rows = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
        means = torch.stack([self.problem.exact_posterior(row[None]).mean for row in rows])
        self.offset, self.gain = means[0].numpy(), (means[1:] - means[0]).T.numpy()
        exact = self.problem.exact_posterior(rows[:1])
        self.root = np.linalg.cholesky(exact.covariance.numpy())
        self.std = exact.std.numpy()

    def numbers(self, seed: int, spread: float = 1.0, shift: float = 0.0) -> dict[str, float]:
        """Calibration over pairs of a posterior `spread` times too wide and `shift` standard
        deviations off.
        """
        x, y = (
            a.numpy()
            for a in self.problem.simulate(
                PAIRS, torch.Generator().manual_seed(seed), "high", torch.float64
            )
        )
        random = np.random.default_rng(seed)
        mean = self.offset + y @ self.gain.T + shift * self.std
        noise = random.standard_normal((PAIRS, DRAWS, SIDE**2))
        draws = mean[:, None] + spread * noise @ self.root.T
        whitened = np.linalg.solve(self.root, ((x - mean) / spread).T).T
        columns = rank_columns(
            draws,
            x,
            -0.5 * (noise**2).sum(2),
            -0.5 * (whitened**2).sum(1),
            other_truths(x, random),
            np.arange(SIDE**2),
            random,
        )
        return calibration_numbers(columns, DRAWS, random)


@lru_cache(maxsize=1)
def posteriors() -> ExactPosteriors:
    return ExactPosteriors()


def test_the_pieces_are_the_exact_posterior():
    exact, y = (
        posteriors(),
        torch.randn(1, SIDE**2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    )
    np.testing.assert_allclose(
        exact.problem.exact_posterior(y).mean, exact.offset + exact.gain @ y[0].numpy(), atol=1e-10
    )


def test_the_exact_posterior_passes_at_the_nominal_rate():
    """200 repetitions at the 5 % level, each p-value between the 0.1 and 99.9 % points of
    Binomial(200, 0.05).
    """
    numbers_of_seeds = [posteriors().numbers(seed) for seed in range(REPETITIONS)]
    low, high = binom.ppf([0.001, 0.999], REPETITIONS, 0.05)
    tarp = sum(numbers["tarp_p_value"] < 0.05 for numbers in numbers_of_seeds)
    ranks = sum(numbers["sbc_p_value"] < 0.05 for numbers in numbers_of_seeds)
    assert low <= tarp <= high, tarp
    assert ranks <= high, (
        ranks
    )  # Bonferroni over five dependent quantities: at most the nominal rate
    for percent in (50, 90, 95):
        rates = [numbers[f"coverage_{percent}"] for numbers in numbers_of_seeds]
        assert np.mean(rates) == pytest.approx(
            percent / 100, abs=4 * np.std(rates) / np.sqrt(REPETITIONS)
        )


@pytest.mark.parametrize(
    ("wrong", "least_found", "coverage"),
    [
        ({"spread": 0.6}, 18, (0, 0.8)),
        ({"spread": 1.7}, 18, (0.95, 1)),
        ({"shift": 0.6}, 16, (0.7, 0.9)),
    ],
    ids=str,
)
def test_each_miscalibration_is_found(wrong, least_found, coverage):
    numbers_of_seeds = [posteriors().numbers(seed, **wrong) for seed in range(20)]
    assert sum(numbers["sbc_p_value"] < 0.05 for numbers in numbers_of_seeds) >= least_found
    low, high = coverage
    assert low <= np.mean([numbers["coverage_90"] for numbers in numbers_of_seeds]) <= high
