r"""The local classifier two-sample test of an amortised flow at one observation.

T(x; y) of pairs (x, y) is standard normal, independent of y, exactly if q is the posterior for
(almost) every y. A classifier learns to tell (T(x; y), y) from (z, y) with z ~ N(0, I); evaluated
at y_obs with fresh z, its confidence measures the error of q *there*. If q is right, T(x_i; y_i)
and z_i are exchangeable for each pair i, so random exchanges give the null distribution of the
confidence. Linhart, Gramfort, Rodrigues 2023, "L-C2ST: local diagnostics for posterior
approximations", https://arxiv.org/abs/2306.03580 (the variant for flows), with the linear
classifier of `pflow.diagnostics.classifier`: then all repetitions share one matrix, and their cost
is negligible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.classifier import RandomFeatures, ridge
from pflow.diagnostics.flattened import flattened

__all__ = ["local_c2st_p_values"]

FEATURES = 150
EVALUATED = 500


def local_c2st_p_values(
    latent: ArrayLike,
    data: ArrayLike,
    observed: Sequence[ArrayLike],
    *,
    repetitions: int = 999,
    seed: int = 0,
) -> list[float]:
    """For each observation the p-value of "q is the posterior at y_obs", not below 1 / (1 +
    repetitions).

    Arguments:
        latent: T(x; y) of pairs that were not trained on, (pairs, ...).
        data: y of the same pairs, (pairs, ...).
        observed: observations.
        repetitions: random exchanges of the two classes, from which the null distribution is made.
        seed: of the exchanges and the fresh latent draws.
    """
    generator = np.random.default_rng(seed)
    z, y = flattened(latent), flattened(data)
    places = [np.asarray(o, dtype=np.float64).reshape(1, -1) for o in observed]
    centre, spread = y.mean(0), y.std(0) + 1e-12
    n, size = z.shape
    fresh = generator.standard_normal((EVALUATED, size))

    def joined(points: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.concatenate([points, np.clip((at - centre) / spread, -5, 5)], 1)

    features = RandomFeatures(joined(z, y), FEATURES, generator)
    of_pairs, of_normal = (
        features(joined(z, y)),
        features(joined(generator.standard_normal((n, size)), y)),
    )
    exchanged = generator.choice([-1.0, 1.0], (n, repetitions))
    signs = np.concatenate([np.ones((n, 1)), exchanged], 1)
    coefficients = ridge(np.concatenate([of_pairs, of_normal]), np.concatenate([signs, -signs]))

    def confidence(place: np.ndarray) -> np.ndarray:
        at = features(joined(fresh, np.broadcast_to(place, (EVALUATED, y.shape[1]))))
        return ((at @ coefficients) ** 2).mean(0)

    return [float((1 + (c[1:] >= c[0]).sum()) / (1 + repetitions)) for c in map(confidence, places)]
