"""Preconditioned normalizing flows for Bayesian inverse problems.

    import pflow

    problem = pflow.problem(operator, prior=(mean, std), noise_std=0.1)
    result = pflow.infer(problem, y, evaluations=256)

These names are imported when they are asked for, so that `import pflow` stays light.
"""

from __future__ import annotations

__version__ = "0.1.0"

_LAZY = {
    "infer": "pflow.notebook.inference",
    "load": "pflow.notebook.result",
    "load_amortized": "pflow.notebook.amortized",
    "pretrain": "pflow.notebook.amortized",
    "problem": "pflow.notebook.problem",
}

__all__ = ["__version__", "infer", "load", "load_amortized", "pretrain", "problem"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'pflow' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
