"""Exceptions for errors that the user can correct."""

from __future__ import annotations

__all__ = ["PassingError", "PflowError"]


class PflowError(Exception):
    """Invalid input, not a defect of pflow: the message names the rule, the value and the way out.

    The command line prints it without a traceback and exits with status 1.
    """


class PassingError(PflowError):
    """A transient error, for which a retry may succeed: a full disk, a node without its GPU."""
