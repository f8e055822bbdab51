"""Accuracy of q against a posterior whose normalised density is known: the measures that compare
methods.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pflow.diagnostics.divergence import forward_kl, reverse_kl
from pflow.diagnostics.importance import effective_sample_size_fraction, elbo, log_evidence

__all__ = ["accuracy_against_exact"]


def accuracy_against_exact(
    log_q: ArrayLike,
    log_posterior: ArrayLike,
    log_posterior_of_truth: ArrayLike,
    log_q_of_truth: ArrayLike,
    *,
    log_evidence_exact: float,
) -> dict[str, float]:
    r"""Divergences both ways, effective sample size, ELBO and evidence error, from log densities.

    The importance estimate of log p(y) minus its exact value is :math:`\log \frac{1}{n} \sum_i
    p(x_i) / q(x_i)` with the normalised p, and the ELBO is log p(y) - KL(q || p).

    Arguments:
        log_q: log q(x_i) at draws x_i of q.
        log_posterior: log p(x_i) at the same draws, normalised.
        log_posterior_of_truth: log p(x_j) at draws x_j of the posterior.
        log_q_of_truth: log q(x_j) at the same draws.
        log_evidence_exact: log p(y).

    Raises:
        ValueError: for NaN, or densities that do not belong together.
    """
    kl, kl_se = reverse_kl(log_q, log_posterior)
    log_weight = np.asarray(log_posterior) - np.asarray(log_q)
    return {
        "kl_reverse_nats": kl,
        "kl_reverse_nats_se": kl_se,
        "kl_forward_nats": forward_kl(log_posterior_of_truth, log_q_of_truth)[0],
        "ess_fraction": effective_sample_size_fraction(log_weight),
        "elbo_nats": log_evidence_exact + elbo(log_weight)[0],
        "log_evidence_error_nats": log_evidence(log_weight)[0],
    }
