"""Test whether an observation resembles the training data of a flow.

Two distances are used: Mahalanobis in the principal components of the training data (far from all
of it), and the distance to the nearest training data (in a gap between it). Each is compared with
the same distance of held-out data, which makes the p-value exact for any distance (conformal): it
is below a with probability at most a if y_obs comes from where the training data come from. A small
p-value says that the amortised flow extrapolates, and that fine-tuning is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.flattened import flattened

__all__ = ["novelty_p_values"]

COMPONENTS = 50
NEIGHBOURS = 5


def novelty_p_values(
    observed: Sequence[ArrayLike], training: ArrayLike, held_out: ArrayLike
) -> list[float]:
    """For each observation the p-value of "y_obs is like the training data"; not below 2 / (1 +
    held-out data).

    Arguments:
        observed: observations.
        training: data that define the distances, (n, ...).
        held_out: data of the same kind that were not trained on, (n, ...).

    Raises:
        ValueError: for different shapes or values that are not finite.
    """
    train, held = flattened(training), flattened(held_out)
    places = [flattened(np.asarray(one)[None]) for one in observed]
    for new in places:
        if not train.shape[1] == held.shape[1] == new.shape[1] or min(len(train), len(held)) < 10:
            raise ValueError(
                "training, held-out and observed data must have one shape, with 10 or more of the"
                f" first two: {train.shape}, {held.shape}, {new.shape}"
            )
    if not all(np.isfinite(a).all() for a in (train, held, *places)):
        raise ValueError("data must be finite")
    whiten = _Whitening(train)
    train, held = whiten(train), whiten(held)
    distances = (lambda a: (a**2).sum(1), lambda a: _to_neighbours(a, train))
    expected = [distance(held) for distance in distances]  # the same for all observations

    def smallest(new: np.ndarray) -> float:
        pairs = zip(distances, expected, strict=True)
        return min(_rank_p_value(distance(new)[0], others) for distance, others in pairs)

    return [min(1.0, len(distances) * smallest(whiten(new))) for new in places]


class _Whitening:
    """Coordinates along the principal components, each of unit variance, and last the norm of the
    residual.
    """

    def __init__(self, train: np.ndarray) -> None:
        self.centre = train.mean(0)
        few = (train - self.centre)[:1000]
        _, singular, rows = np.linalg.svd(few, full_matrices=False)
        keep = max(1, min(COMPONENTS, len(few) // 5, int((singular > 1e-9 * singular[0]).sum())))
        self.rows, self.scale = rows[:keep], singular[:keep] / np.sqrt(len(few))
        self.rest_scale = max(
            float(self._rest(train - self.centre).std()), 1e-6 * float(self.scale[0]), 1e-300
        )

    def __call__(self, values: np.ndarray) -> np.ndarray:
        centred = values - self.centre
        return np.concatenate(
            [centred @ self.rows.T / self.scale, self._rest(centred)[:, None] / self.rest_scale], 1
        )

    def _rest(self, centred: np.ndarray) -> np.ndarray:
        return np.linalg.norm(centred - centred @ self.rows.T @ self.rows, axis=1)


def _to_neighbours(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Distance to the nearest training data, the average over a few of them."""
    squared = (values**2).sum(1)[:, None] + (train**2).sum(1) - 2 * values @ train.T
    nearest = np.partition(squared, min(NEIGHBOURS, len(train)) - 1, axis=1)[:, :NEIGHBOURS]
    return np.sqrt(np.maximum(nearest, 0)).mean(1)


def _rank_p_value(value: float, others: np.ndarray) -> float:
    return float((1 + (others >= value).sum()) / (1 + len(others)))
