"""Distances between draws of q and draws of a reference; each is 0 (or 0.5 for the classifier) when
they agree.

Draws are standardised by the reference's mean and standard deviation first, so that no distance has
a unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.classifier import RandomFeatures, solve_ridge
from pflow.diagnostics.flattened import flattened

__all__ = ["c2st", "mmd", "quantile_error", "sliced_wasserstein", "two_sample"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def two_sample(draws: ArrayLike, reference: ArrayLike, seed: int = 0) -> dict[str, float]:
    """All of them, by their names in metrics.json."""
    return {
        "c2st": c2st(draws, reference, seed=seed),
        "mmd": mmd(draws, reference, seed=seed),
        "sliced_wasserstein": sliced_wasserstein(draws, reference, seed=seed),
        "quantile_error_posterior_std": quantile_error(draws, reference),
    }


def c2st(
    draws: ArrayLike, reference: ArrayLike, *, most: int = 2000, folds: int = 5, seed: int = 0
) -> float:
    """Accuracy of a classifier that separates draws of q from draws of the reference, on held-out
    draws.

    0.5: indistinguishable; 1: separated. Lopez-Paz, Oquab 2017, "Revisiting classifier two-sample
        tests",
    https://arxiv.org/abs/1610.06545, with `pflow.diagnostics.classifier`.
    """
    generator = np.random.default_rng(seed)
    first, second = (_some(a, most, generator) for a in _standardised(draws, reference))
    n = min(len(first), len(second))
    points, labels = np.concatenate([first[:n], second[:n]]), np.repeat([1.0, -1.0], n)
    features = RandomFeatures(second, 200, generator)(points)
    fold = np.tile(generator.permutation(n) % folds, 2)
    parts = [(features[fold == k], labels[fold == k]) for k in range(folds)]
    grams, moments = [f.T @ f for f, _ in parts], [f.T @ label for f, label in parts]
    right = 0
    for (held_out, label), gram, moment in zip(parts, grams, moments, strict=True):
        rest = 2 * n - len(label)
        score = held_out @ solve_ridge((sum(grams) - gram) / rest, (sum(moments) - moment) / rest)
        right += int((np.sign(score) == label).sum())
    return right / (2 * n)


def mmd(draws: ArrayLike, reference: ArrayLike, *, most: int = 1000, seed: int = 0) -> float:
    """Maximum mean discrepancy with a Gaussian kernel as wide as the median distance between
    reference draws.

    The square root of the unbiased estimate, 0 where that is negative. Gretton et al. 2012, "A
    kernel two-sample test".
    """
    generator = np.random.default_rng(seed)
    first, second = (_some(a, most, generator) for a in _standardised(draws, reference))
    within = _squared_distances(second, second)
    width = np.median(within[np.triu_indices_from(within, 1)])
    k_first, k_second, k_between = (
        np.exp(-d / width)
        for d in (_squared_distances(first, first), within, _squared_distances(first, second))
    )
    n, m = len(first), len(second)
    estimate = (
        (k_first.sum() - n) / (n * (n - 1))
        + (k_second.sum() - m) / (m * (m - 1))
        - 2 * k_between.mean()
    )
    return float(np.sqrt(max(0.0, estimate)))


def sliced_wasserstein(
    draws: ArrayLike, reference: ArrayLike, *, directions: int = 50, seed: int = 0
) -> float:
    """Wasserstein-1 distance of one-dimensional projections, averaged over random directions, in
    posterior standard deviations.
    """
    generator = np.random.default_rng(seed)
    first, second = _standardised(draws, reference)
    unit = generator.standard_normal((directions, first.shape[1]))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    places = (np.arange(1000) + 0.5) / 1000
    return float(
        np.abs(_quantiles(first @ unit.T, places) - _quantiles(second @ unit.T, places)).mean()
    )


def quantile_error(draws: ArrayLike, reference: ArrayLike) -> float:
    """The average error of the marginal 5, 25, 50, 75 and 95 % quantiles, in posterior standard
    deviations.
    """
    first, second = _standardised(draws, reference)
    return float(
        np.abs(
            np.quantile(first, QUANTILES, axis=0) - np.quantile(second, QUANTILES, axis=0)
        ).mean()
    )


def _standardised(draws: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = flattened(draws), flattened(reference)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"draws and reference must have as many parameters, and have {first.shape[1]} and"
            f" {second.shape[1]}"
        )
    for name, values in (("draws", first), ("reference", second)):
        if len(values) < 20 or not np.isfinite(values).all():
            raise ValueError(
                f"`{name}` must hold at least 20 finite draws, and has {len(values)}, of which"
                f" {int(np.isfinite(values).all(1).sum())} are finite"
            )
    centre, spread = second.mean(0), second.std(0)
    if (spread <= 0).any():
        raise ValueError("`reference` must vary in every parameter")
    return (first - centre) / spread, (second - centre) / spread


def _some(values: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    return (
        values
        if len(values) <= most
        else values[generator.choice(len(values), most, replace=False)]
    )


def _quantiles(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those of each column: one sort for all places."""
    ordered = np.sort(values, axis=0)
    return ordered[(places * len(values)).astype(int)]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T)
