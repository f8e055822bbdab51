r"""Each parameter of a posterior by itself: its intervals, and how far the data narrowed the prior.

.. math::
    \text{contraction} = 1 - \frac{\operatorname{std}(x \mid y)}{\operatorname{std}(x)}

is 0 where the data said nothing about a parameter and 1 where they fixed it; it is negative where
the posterior is wider than the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.flattened import flattened

__all__ = ["COLUMNS", "contraction", "intervals"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
PRIOR_QUANTILES = {"prior_q05": 0.05, "prior_q95": 0.95}
COLUMNS = (
    "parameter",
    "unit",
    "mean",
    "std",
    *QUANTILES,
    *PRIOR_QUANTILES,
    "contraction",
    "true_value",
)


def contraction(draws: ArrayLike, prior: ArrayLike) -> np.ndarray:
    """1 - std(posterior) / std(prior) of each parameter, (parameters,); NaN where the prior is a
    constant.

    Arguments:
        draws: of the posterior, (draws, ...).
        prior: draws of the prior, (draws, ...), as many parameters.

    >>> x = np.array([[-1.0], [1.0]])
    >>> contraction(x, 4 * x)
    array([0.75])
    """
    spread, before = flattened(draws).std(0, ddof=1), flattened(prior).std(0, ddof=1)
    known = before > 0
    return np.where(known, 1 - spread / np.where(known, before, 1.0), np.nan)


def intervals(
    draws: ArrayLike,
    names: Sequence[str],
    *,
    unit: str = "1",
    prior: ArrayLike | None = None,
    x_true: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """One row a parameter with the names of `COLUMNS`: moments, and quantiles of the draws, which
    bound the central 50 and 90 % intervals. What is not known is absent.

    Arguments:
        draws: of the posterior, (draws, parameters).
        names: of the parameters.
        unit: of all of them.
        prior: draws of the prior, (draws, parameters).
        x_true: the true values, (parameters,).

    >>> row = intervals(np.arange(101.0)[:, None], ["depth"], unit="m")[0]
    >>> row["parameter"], row["q05"], row["median"], row["q95"]
    ('depth', 5.0, 50.0, 95.0)
    """
    x = flattened(draws)
    columns: dict[str, np.ndarray] = {"mean": x.mean(0), "std": x.std(0, ddof=1)}
    columns |= _quantiles(x, QUANTILES)
    if prior is not None:
        columns |= _quantiles(flattened(prior), PRIOR_QUANTILES)
        columns["contraction"] = contraction(draws, prior)
    if x_true is not None:
        columns["true_value"] = np.asarray(x_true, dtype=np.float64).reshape(-1)
    return [
        {"parameter": name, "unit": unit}
        | {key: float(values[i]) for key, values in columns.items() if np.isfinite(values[i])}
        for i, name in enumerate(names)
    ]


def _quantiles(x: np.ndarray, levels: dict[str, float]) -> dict[str, np.ndarray]:
    return dict(zip(levels, np.quantile(x, list(levels.values()), axis=0), strict=True))
