"""Problems that live in this Python process: instances that were handed to `pflow.infer`, by key.

Settings are plain text and cannot hold an object, so a job's settings hold its key. Another process
does not know the object.
"""

from __future__ import annotations

from pflow.errors import PflowError
from pflow.problems.base import Problem

__all__ = ["remember_problem", "session_problem"]

_KNOWN: dict[str, Problem] = {}


def remember_problem(key: str, problem: Problem) -> None:
    """Make `problem` the one of that key."""
    _KNOWN[key] = problem


def session_problem(key: str) -> Problem:
    """The problem of that key.

    Raises:
        PflowError: this process does not know it.
    """
    if key not in _KNOWN:
        raise PflowError(
            f"`problem.session` (={key}) is an object of another Python process, and cannot be made"
            " from its settings: call pflow.infer(problem, y, ...) with the object again; or put"
            " its class into a file, and name that file in place of the object"
        )
    return _KNOWN[key]
