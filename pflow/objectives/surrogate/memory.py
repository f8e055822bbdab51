"""The memory that a model of F takes: what evaluations told and Jacobians are matrices as large as
the data.
"""

from __future__ import annotations

__all__ = ["gigabytes_of", "why_too_large"]

BYTES = 8  # of a number in float64
OF_EVALUATIONS, OF_JACOBIANS, OF_COVARIANCES = 8, 4, 6  # matrices held at the same time


def gigabytes_of(evaluations: int, parameters: int, data: int) -> float:
    """At its largest, for n evaluations of m data and D parameters: 8 matrices (n, m), 4 (m, D) and
    6 (D, D).

    >>> round(gigabytes_of(evaluations=256, parameters=1024, data=65_536), 1)
    3.3
    """
    numbers = data * (OF_EVALUATIONS * evaluations + OF_JACOBIANS * parameters)
    return BYTES * (numbers + OF_COVARIANCES * parameters**2) / 1e9


def why_too_large(evaluations: int, parameters: int, data: int, limit: float) -> str:
    """Why a model of F does not fit into `limit` GB; empty where it does."""
    needed = gigabytes_of(evaluations, parameters, data)
    if needed <= limit:
        return ""
    return (
        f"with {data} data, {parameters} parameters and {evaluations} evaluations a model of F"
        f" takes about {needed:.2g} GB, and `memory_gb` is {limit:g}"
    )
