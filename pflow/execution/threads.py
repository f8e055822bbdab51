"""How many threads the libraries of a job start. Standard library only: it is called before any of
them is imported, because they read their environment once.
"""

from __future__ import annotations

import os

__all__ = ["limit_threads"]

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


def limit_threads(threads: int) -> None:
    """Let OpenMP and every library for linear algebra start `threads` threads in this process and
    in those that it starts.
    """
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
