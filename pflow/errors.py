"""The one exception that means "the user can mend this"."""

from __future__ import annotations

__all__ = ["PflowError"]


class PflowError(Exception):
    """A rule was broken by input, not by a defect of pflow: the message names the rule, the value and the way out.

    The command line prints it without a traceback and exits with status 1.
    """
