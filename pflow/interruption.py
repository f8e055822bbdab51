"""SIGTERM and SIGINT during training: finish the step, save the state, stop.

SLURM sends SIGTERM before a time limit or a preemption, a person presses Ctrl-C; both mean "save and go".
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["DeferredSignals", "Interrupted"]


class Interrupted(BaseException):
    """Work stopped by a signal after its state was saved. No `except Exception` takes it for an error.

    Attributes:
        signal_number: what was received; the exit status is 128 + this.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class DeferredSignals:
    """Context in which the first SIGTERM or SIGINT only sets `received`; a second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
