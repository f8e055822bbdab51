"""The one exception that means "the user can mend this"."""

from __future__ import annotations

__all__ = ["PassingError", "PflowError"]


class PflowError(Exception):
    """A rule was broken by input, not by a defect of pflow: the message names the rule, the value
    and the way out.

    The command line prints it without a traceback and exits with status 1.
    """


class PassingError(PflowError):
    """The same, where another attempt can succeed without a person: a full disk, a node without its
    GPU.
    """
