r"""A classifier that trains in milliseconds: ridge regression of the label +-1 on random features.

Features of a standardised point v are 1, v, v^2 and :math:`\tanh(A v + b)` with random A, b:
sufficient to detect a shift, a wrong spread and curvature. In more than 100 dimensions v is first
projected onto 100 random directions. There is no training loop, so tests can afford a hundred
classifiers.
"""

from __future__ import annotations

import numpy as np

__all__ = ["RandomFeatures", "ridge", "solve_ridge"]

STRENGTH = 1e-2
LARGEST = 100


class RandomFeatures:
    """The map from points to features.

    Arguments:
        points: whose mean and spread standardise, (n, size).
        count: number of random features.
        generator: draws A and b.
    """

    def __init__(self, points: np.ndarray, count: int, generator: np.random.Generator) -> None:
        self.centre, self.spread = points.mean(0), points.std(0) + 1e-12
        size = min(points.shape[1], LARGEST)
        many = points.shape[1] > LARGEST
        self.projection = (
            generator.standard_normal((points.shape[1], size)) / np.sqrt(points.shape[1])
            if many
            else None
        )
        self.matrix = (
            generator.standard_normal((size, count))
            * generator.uniform(0.3, 2.0, count)
            / np.sqrt(size)
        )
        self.offset = generator.uniform(-2, 2, count)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        v = np.clip((points - self.centre) / self.spread, -10, 10)
        v = v if self.projection is None else v @ self.projection
        return np.concatenate(
            [np.ones((len(v), 1)), v, v**2 - 1, np.tanh(v @ self.matrix + self.offset)], 1
        )


def ridge(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coefficients c that minimise |features c - labels|^2 / n + STRENGTH |c|^2, for each column of
    labels.
    """
    return solve_ridge(features.T @ features / len(features), features.T @ labels / len(features))


def solve_ridge(gram: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The same from the averages of features features^T and features labels."""
    return np.linalg.solve(gram + STRENGTH * np.eye(len(gram)), moments)
