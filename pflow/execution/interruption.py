"""SIGTERM and SIGINT: stop at once with a message of one line, or, during training, finish the
step, save the state and stop.

SLURM sends SIGTERM before a time limit or a preemption, a user presses Ctrl-C. Both are handled
alike.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from pflow.errors import STOP_REQUESTED, PassingError

__all__ = ["DeferredSignals", "Interrupted", "StopSignals"]


class Interrupted(BaseException):
    """Work stopped by a signal after its state was saved; not caught by `except Exception`.

    Attributes:
        signal_number: the signal received; the exit status is 128 + this.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class StopSignals:
    """Context in which SIGTERM and SIGINT raise `Interrupted` in the main thread and are stored in
    `received`.

    After a signal, any exception that leaves the context counts as that signal, because the import
    of a C extension turns an exception raised within it into an ImportError. An exception raised in
    a finaliser is printed and dropped by Python; it is raised again at the end of the context.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignals:
        self._previous = {
            number: signal.signal(number, self._stop)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
        }
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        STOP_REQUESTED.clear()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = self._hook
        STOP_REQUESTED.clear()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            self.received = number
            STOP_REQUESTED.set()
        raise Interrupted(
            self.received or signal.SIGTERM, "nothing was left half-written; run again"
        )

    def _dropped(self, what: sys.UnraisableHookArgs) -> None:
        if self.received is None:
            self._hook(what)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.01)


class DeferredSignals:
    """Context in which the first SIGTERM or SIGINT only sets `received`; a second one acts at once.
    What waits for something outside the process gives up at the first one, and its `PassingError`
    leaves the context as `Interrupted`.

    Arguments:
        patient: further signals do not act at once either: each of several processes receives the
            same signal from SLURM, srun and torchrun.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        STOP_REQUESTED.clear()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._restore()
        STOP_REQUESTED.clear()
        if self.received and isinstance(error, PassingError):
            raise Interrupted(
                self.received, "stopped in the middle of a step; run again to continue"
            ) from error

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        STOP_REQUESTED.set()
        if not self.patient:
            self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
