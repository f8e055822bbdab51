"""Coverage of the credible intervals of q, and posterior mass that q misses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.arrays import mean_and_standard_error
from pflow.diagnostics.flattened import flattened

__all__ = [
    "COVERAGES",
    "inside_intervals",
    "interval_coverage",
    "missed_by_prior",
    "missed_by_reference",
]

COVERAGES = (50, 90, 95)
OUTSIDE = 0.001  # q's region of highest density holds all but this much of its own mass


def inside_intervals(draws: ArrayLike, values: ArrayLike) -> dict[int, np.ndarray]:
    """Which values lie inside the central 50, 90 and 95 % intervals of the draws: for each of these
    percentages an array of the shape of `values`.

    Arguments:
        draws: of q, (draws, *model).
        values: to look for, (..., *model).

    >>> inside = inside_intervals(np.arange(101.0)[:, None], [[30.0], [90.0], [99.0]])
    >>> [inside[percent].ravel().tolist() for percent in inside]
    [[True, False, False], [True, True, False], [True, True, False]]
    """
    draws, values = np.asarray(draws, dtype=np.float64), np.asarray(values, dtype=np.float64)
    inside = {}
    for percent in COVERAGES:
        low, high = np.quantile(draws, [0.5 - percent / 200, 0.5 + percent / 200], axis=0)
        inside[percent] = (values >= low) & (values <= high)
    return inside


def interval_coverage(
    draws: ArrayLike, others: ArrayLike, weight: ArrayLike | None = None
) -> dict[str, float]:
    """Posterior mass inside the central 50, 90 and 95 % intervals of q, averaged over the
    parameters.

    Arguments:
        draws: of q, (draws, ...).
        others: draws of the posterior, (draws, ...), or of q itself when they carry importance
            weights.
        weight: relative weights of `others`; equal if absent.
    """
    draws, others = flattened(draws), flattened(others)
    share = (
        np.full(len(others), 1 / len(others))
        if weight is None
        else np.asarray(weight, dtype=np.float64) / np.sum(weight)
    )
    return {
        f"coverage_{percent}": float((share @ inside).mean())
        for percent, inside in inside_intervals(draws, others).items()
    }


def missed_by_reference(log_q: ArrayLike, log_q_of_truth: ArrayLike) -> tuple[float, float]:
    """Posterior mass outside the region that holds 99.9 % of q, from draws of the posterior, and
    its standard error.

    Arguments:
        log_q: log q at draws of q.
        log_q_of_truth: log q at draws of the posterior.
    """
    edge = np.quantile(np.asarray(log_q, dtype=np.float64), OUTSIDE)
    return mean_and_standard_error((np.asarray(log_q_of_truth) < edge).astype(np.float64))


def missed_by_prior(
    log_evidence: float, log_q: ArrayLike, prior_log_likelihood: ArrayLike, prior_log_q: ArrayLike
) -> tuple[float, float]:
    r"""The same without a reference: draws of the prior, weighted with the likelihood, may find
    mass that q misses.

    With the evidence :math:`Z_q` estimated from the weights of q and :math:`Z_o` the prior mean of
    the likelihood outside q's region, the missed share is :math:`Z_o / (Z_q + Z_o)`. Only a lost
    region that prior draws hit is found: this works in few dimensions, and finds nothing in many.

    Arguments:
        log_evidence: the estimate from the weights of q.
        log_q: log q at draws of q.
        prior_log_likelihood: log p(y given x) at draws of the prior.
        prior_log_q: log q(x) at the same draws.
    """
    edge = np.quantile(np.asarray(log_q, dtype=np.float64), OUTSIDE)
    log_likelihood = np.asarray(prior_log_likelihood, dtype=np.float64)
    outside = ~(
        np.asarray(prior_log_q, dtype=np.float64) >= edge
    )  # NaN, a point where q breaks down, is outside
    contribution = np.where(
        outside,
        np.exp(np.minimum(np.nan_to_num(log_likelihood - log_evidence, nan=-np.inf), 600.0)),
        0.0,
    )
    mean, standard_error = mean_and_standard_error(contribution)
    return mean / (1 + mean), standard_error / (1 + mean)
