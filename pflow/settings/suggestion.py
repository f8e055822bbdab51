"""What a misspelt name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: object, choices: Iterable[object], otherwise: str = "") -> str:
    """The question "did you mean `gaussian`?" with the choice most like `name`; `otherwise` where
    none is.

    >>> did_you_mean("gausian", ["gaussian", "rosenbrock"])
    'did you mean `gaussian`?'
    """
    nearest = difflib.get_close_matches(
        str(name), [str(choice) for choice in choices], n=1, cutoff=0.5
    )
    return f"did you mean `{nearest[0]}`?" if nearest else otherwise
