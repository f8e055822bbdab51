r"""Calibration over many pairs (x*, y): is the truth x* an ordinary draw of q(. given y)?

If q is the posterior, x* and draws x_1 ... x_L of q(. given y) are exchangeable. So for any
quantity f(x, y) the rank

    r = #{l : f(x_l, y) < f(x*, y)}

is uniform on 0 ... L over pairs (simulation-based calibration: Talts, Betancourt, Simpson, Vehtari,
Gelman 2018, https://arxiv.org/abs/1804.06788). Each parameter is such a quantity; log q tests the
joint distribution (Modrak et al. 2023, https://arxiv.org/abs/2211.02383); the distance to a random
point is TARP (Lemos, Coogan, Hezaveh, Perreault-Levasseur 2023, https://arxiv.org/abs/2302.03026),
which detects a wrong spread in any dimension and is less sensitive to a shift. Too many small and
large ranks: q is too narrow; a hump: too wide; a slope: biased.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

__all__ = ["Uniformity", "coverage_of_ranks", "ranks", "tarp_distances", "uniformity"]

REPETITIONS = 4000


@dataclass(frozen=True)
class Uniformity:
    """A test that ranks are uniform, simultaneously at every point of their distribution function.

    Attributes:
        p_value: small if they are not.
        at: the points z = k / (L + 1).
        empirical: share of ranks below k, at each z.
        low, high: where a uniform sample stays, everywhere at once, with probability 1 - level.
    """

    p_value: float
    at: np.ndarray
    empirical: np.ndarray
    low: np.ndarray
    high: np.ndarray


def ranks(of_draws: ArrayLike, of_truth: ArrayLike, generator: np.random.Generator) -> np.ndarray:
    """Number of draws whose quantity is below the truth's, ties broken at random.

    Arguments:
        of_draws: f(x_l, y), (pairs, draws, ...).
        of_truth: f(x*, y), (pairs, ...).
        generator: breaks the ties.

    Returns:
        Whole numbers from 0 to `draws`, (pairs, ...).
    """
    of_draws, of_truth = np.asarray(of_draws), np.asarray(of_truth)[:, None]
    below, tied = (of_draws < of_truth).sum(1), (of_draws == of_truth).sum(1)
    return below + generator.integers(0, tied + 1)


def tarp_distances(
    draws: np.ndarray, truth: np.ndarray, references: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances to a random reference point of each pair: the quantity f of TARP at the draws and
    at the truth.

    Arguments:
        draws: (pairs, draws, size).
        truth: (pairs, size).
        references: one random point a pair, (pairs, size).
    """
    return np.linalg.norm(draws - references[:, None], axis=2), np.linalg.norm(
        truth - references, axis=1
    )


def uniformity(rank: ArrayLike, draws: int, level: float = 0.05, seed: int = 0) -> Uniformity:
    r"""Test that `rank` is uniform on 0 ... `draws`, with simultaneous bands for its distribution
    function.

    The statistic is the smallest pointwise binomial tail probability over all points; its
    distribution under uniformity is simulated, which makes test and bands exact but for simulation
    error (Sailynoja, Burkner, Vehtari 2022, "Graphical test for discrete uniformity",
    https://arxiv.org/abs/2103.10522).

    Arguments:
        rank: (pairs,).
        draws: L, the largest rank.
        level: of the bands.
        seed: of the simulated distribution under uniformity.
    """
    rank = np.asarray(rank)
    n, cells = len(rank), draws + 1
    if rank.ndim != 1 or n < 2 or rank.min() < 0 or rank.max() > draws:
        raise ValueError(f"`rank` must hold at least 2 whole numbers from 0 to {draws}")
    edges, table, null = _under_uniformity(n, cells, seed)
    at = edges / cells
    counts = np.searchsorted(np.sort(rank), edges, side="left")  # ranks below each edge
    statistic = table[counts, np.arange(len(edges))].min()
    limit = np.quantile(null, level)
    inside = table > limit
    low = np.argmax(inside, axis=0) / n
    high = (n - np.argmax(inside[::-1], axis=0)) / n
    p_value = (1 + (null <= statistic * (1 + 1e-9)).sum()) / (1 + REPETITIONS)
    if (
        statistic < null.min()
    ):  # beyond what was simulated, the sum over both tails of all points bounds it
        p_value = min(p_value, 2 * len(edges) * statistic)
    return Uniformity(float(p_value), at, counts / n, low, high)


def coverage_of_ranks(
    rank: ArrayLike, draws: int, percent: float, generator: np.random.Generator
) -> float:
    """Share of pairs whose truth lies in the central interval that holds `percent` of q: `percent`
    / 100 if q is calibrated.
    """
    rank = np.asarray(rank)
    place = (rank + generator.random(rank.shape)) / (
        draws + 1
    )  # continuous and uniform for a calibrated q
    return float((np.abs(place - 0.5) <= percent / 200).mean())


@lru_cache(maxsize=4)
def _under_uniformity(n: int, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points (at most 100 are enough), the smaller binomial tail of each count there, and
    simulated statistics.
    """
    edges = np.unique(np.linspace(0, cells, min(cells, 100) + 1).round().astype(int))[1:-1]
    counts = np.arange(n + 1)[:, None]
    table = np.minimum(binom.cdf(counts, n, edges / cells), binom.sf(counts - 1, n, edges / cells))
    shares = np.diff(np.concatenate([[0], edges, [cells]])) / cells
    simulated = (
        np.random.default_rng(seed).multinomial(n, shares, size=REPETITIONS)[:, :-1].cumsum(1)
    )
    return edges, table, table[simulated, np.arange(len(edges))].min(1)
