"""Kullback-Leibler divergences in nats from normalised log densities at draws, with standard
errors.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from pflow.diagnostics.arrays import log_densities, mean_and_standard_error

__all__ = ["forward_kl", "reverse_kl"]


def reverse_kl(log_q: ArrayLike, log_posterior: ArrayLike) -> tuple[float, float]:
    r"""The divergence :math:`KL(q \| p) = E_q[\log q - \log p]` in nats, and its standard error.

    A draw where p is zero makes it infinite, with an infinite error.

    Arguments:
        log_q: log q(x_i) at draws x_i of q.
        log_posterior: log p(x_i) at the same draws, normalised.

    Raises:
        ValueError: for NaN, +inf, a `log_q` of -inf, or different lengths.
    """
    return _kl("log_q", log_q, "log_posterior", log_posterior)


def forward_kl(log_posterior: ArrayLike, log_q: ArrayLike) -> tuple[float, float]:
    r"""The divergence :math:`KL(p \| q) = E_p[\log p - \log q]` in nats, and its standard error.

    A draw where q is zero makes it infinite, with an infinite error.

    Arguments:
        log_posterior: log p(x_i), normalised, at draws x_i of the posterior.
        log_q: log q(x_i) at the same draws.

    Raises:
        ValueError: for NaN, +inf, a `log_posterior` of -inf, or different lengths.
    """
    return _kl("log_posterior", log_posterior, "log_q", log_q)


def _kl(
    name: str, log_density: ArrayLike, other_name: str, other: ArrayLike
) -> tuple[float, float]:
    """E[log density - log other] over draws of the first, where the first cannot be zero."""
    values = log_densities(name, log_density, allow_zero=False)
    other_values = log_densities(other_name, other, allow_zero=True)
    if len(values) != len(other_values):
        raise ValueError(
            f"`{name}` and `{other_name}` must belong to the same draws, and there are"
            f" {len(values)} and {len(other_values)}"
        )
    return mean_and_standard_error(values - other_values)
