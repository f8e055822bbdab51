"""The numbers of metrics.json, from arrays: first those without a reference, then those with one.

Values that are not finite do not exist in JSON and are left out; their cause is counted
(`zero_weight_fraction`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.accuracy import accuracy_against_exact
from pflow.diagnostics.arrays import mean_and_standard_error
from pflow.diagnostics.coverage import interval_coverage, missed_by_prior, missed_by_reference
from pflow.diagnostics.flattened import flattened
from pflow.diagnostics.importance import effective_sample_size_fraction, elbo, log_evidence
from pflow.diagnostics.moments import mean_error, std_error
from pflow.diagnostics.pareto import pareto_k
from pflow.diagnostics.predictive import predictive_chi_square
from pflow.diagnostics.two_sample import two_sample

__all__ = ["against_reference", "finite", "without_reference"]


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The entries that exist and are finite."""
    return {
        name: value for name, value in metrics.items() if value is not None and math.isfinite(value)
    }


def without_reference(
    draws: ArrayLike,
    log_q: ArrayLike,
    log_weight: ArrayLike,
    chi_square: ArrayLike,
    data_size: int,
    *,
    score_error: ArrayLike | None = None,
    prior_log_likelihood: ArrayLike | None = None,
    prior_log_q: ArrayLike | None = None,
    largest_k: float = 0.7,
    high_ess: float = 0.9,
) -> dict[str, float]:
    """Metrics from the draws of q, their weights, misfits and scores.

    Arguments:
        draws: x_i ~ q, (draws, ...).
        log_q: log q(x_i), (draws,).
        log_weight: log p~(x_i) - log q(x_i), (draws,).
        chi_square: misfit per datum of each draw.
        data_size: number of data.
        score_error: of some of the draws.
        prior_log_likelihood: log p(y given x) at draws of the prior.
        prior_log_q: log q(x) at the same draws.
        largest_k: weights correct the coverage where k-hat is below this,
        high_ess: or where the fraction of effective draws is above this.
    """
    draws, log_q, log_weight, chi_square = (
        np.asarray(a, dtype=np.float64) for a in (draws, log_q, log_weight, chi_square)
    )
    broken = (
        ~np.isfinite(log_weight)
        | ~np.isfinite(log_q)
        | ~np.isfinite(draws.reshape(len(draws), -1)).all(1)
    )
    log_weight = np.where(broken, -np.inf, log_weight)
    metrics: dict[str, float | None] = {"zero_weight_fraction": float(broken.mean())}
    if not broken.all():
        metrics["elbo_nats"], metrics["elbo_nats_se"] = elbo(log_weight)
        evidence, metrics["log_evidence_nats_se"] = log_evidence(log_weight)
        metrics["log_evidence_nats"] = evidence
        metrics["ess_fraction"] = ess = effective_sample_size_fraction(log_weight)
        metrics["pareto_k"] = k = pareto_k(log_weight)
        if ess > high_ess or (k is not None and k < largest_k):
            weight = np.exp(log_weight - log_weight.max())
            metrics |= interval_coverage(draws[~broken], draws[~broken], weight[~broken])
        if prior_log_likelihood is not None and prior_log_q is not None:
            missed = missed_by_prior(evidence, log_q[~broken], prior_log_likelihood, prior_log_q)
            metrics["missed_mass"], metrics["missed_mass_se"] = missed
    explained = chi_square[np.isfinite(chi_square)]
    if len(explained):
        metrics |= predictive_chi_square(explained, data_size)
    if score_error is not None:
        errors = np.asarray(score_error, dtype=np.float64)
        if len(errors) > 1 and np.isfinite(errors).all():
            metrics["score_error"], metrics["score_error_se"] = mean_and_standard_error(errors)
    return finite(metrics)


def against_reference(
    draws: ArrayLike,
    reference: ArrayLike,
    log_q: ArrayLike,
    log_q_of_truth: ArrayLike,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    log_posterior: ArrayLike | None = None,
    log_posterior_of_truth: ArrayLike | None = None,
    log_evidence_exact: float | None = None,
) -> dict[str, float]:
    """Distances from a reference; the divergences where its density is normalised.

    Arguments:
        draws: of q, (draws, ...).
        reference: draws of the reference, (draws, ...).
        log_q: log q at the draws of q.
        log_q_of_truth: log q at the draws of the reference.
        mean: posterior mean where it is known exactly; otherwise that of the reference draws.
        std: the same for the standard deviation.
        log_posterior: normalised log density at the draws of q.
        log_posterior_of_truth: the same at the draws of the reference.
        log_evidence_exact: log p(y).
    """
    own, truth = flattened(draws), flattened(reference)
    log_q_own = np.asarray(log_q, dtype=np.float64)
    log_q_truth = np.asarray(log_q_of_truth, dtype=np.float64)
    log_q_truth = np.where(np.isfinite(log_q_truth), log_q_truth, -np.inf)
    usable = np.isfinite(own).all(1) & np.isfinite(log_q_own)
    metrics: dict[str, float | None] = {}
    if usable.all() and log_evidence_exact is not None:
        log_p = np.asarray(log_posterior)
        log_p = np.where(np.isfinite(log_p), log_p, -np.inf)
        if log_posterior_of_truth is not None and np.isfinite(log_p).any():
            metrics |= accuracy_against_exact(
                log_q_own,
                log_p,
                log_posterior_of_truth,
                log_q_truth,
                log_evidence_exact=log_evidence_exact,
            )
    if usable.sum() >= 20:
        own, log_q_own = own[usable], log_q_own[usable]
        centre = truth.mean(0) if mean is None else np.asarray(mean).reshape(-1)
        spread = truth.std(0, ddof=1) if std is None else np.asarray(std).reshape(-1)
        metrics["mean_error_posterior_std"] = mean_error(own.mean(0), centre, spread)
        metrics["std_error_posterior_std"] = std_error(own.std(0, ddof=1), spread)
        metrics |= two_sample(own, truth)
        metrics |= interval_coverage(own, truth)
        metrics["missed_mass"], metrics["missed_mass_se"] = missed_by_reference(
            log_q_own, log_q_truth
        )
    return finite(metrics)
