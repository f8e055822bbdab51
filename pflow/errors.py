"""Exceptions for errors that the user can correct, and whether this process was asked to stop."""

from __future__ import annotations

import threading

__all__ = ["STOP_REQUESTED", "PassingError", "PflowError"]

STOP_REQUESTED = threading.Event()
"""Set while a signal waits for the end of a step. Whatever waits for something outside the process,
such as a server that cannot be reached, in any thread, looks at it, and waits no longer."""


class PflowError(Exception):
    """Invalid input, not a defect of pflow: the message names the rule, the value and the way out.

    The command line prints it without a traceback and exits with status 1.
    """


class PassingError(PflowError):
    """A transient error, for which a retry may succeed: a full disk, a node without its GPU."""
