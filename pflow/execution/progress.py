"""Progress of long stages: a bar on a terminal, one plain line at a time in a log file."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]

WORTH_TELLING = 0.01  # of the work, before which the time that is left is not known


class Progress:
    """Report the finished fraction of one stage.

    Arguments:
        title: what is being done.
        stream: where to report; a terminal gets a bar that redraws, anything else a line every
            `interval` seconds.
        interval: seconds between two lines of a log.
    """

    def __init__(self, title: str, stream: TextIO | None = None, interval: float = 60.0) -> None:
        self.title, self.stream, self.interval = title, stream or sys.stderr, interval
        # A notebook redraws a line as a terminal does, but each time costs it a message.
        notebook = type(self.stream).__module__.startswith("ipykernel.")
        self.is_terminal = notebook or self.stream.isatty()
        if self.is_terminal:
            self.interval = 1.0 if notebook else 0.1
        self.began = time.monotonic()
        self.began_fraction: float | None = None
        self.last = float("-inf")

    def update(self, fraction: float, **numbers: float) -> None:
        """Show `fraction` (0 to 1) and `numbers`; returns quickly when no report is due."""
        now = time.monotonic()
        if self.began_fraction is None:
            self.began_fraction = fraction
        if now - self.last < self.interval:
            return
        self.last = now
        self._write(self._text(fraction, now, numbers), end="" if self.is_terminal else "\n")

    def say(self, message: str) -> None:
        """One line, now."""
        self._write(f"{self.title}: {message}", end="\n")

    def close(self, message: str) -> None:
        """Finish the bar and print a last line."""
        self.say(message)

    def _text(self, fraction: float, now: float, numbers: dict[str, float]) -> str:
        done = fraction - (self.began_fraction or 0.0)
        left = (now - self.began) * (1 - fraction) / done if done >= WORTH_TELLING else float("nan")
        shown = "  ".join(f"{name} {value:.5g}" for name, value in numbers.items())
        remaining = "" if left != left else f"  {left:.0f} s left"
        bar = f" [{'#' * int(20 * fraction):<20}]" if self.is_terminal else ""
        return f"{self.title}:{bar} {fraction:4.0%}  {shown}{remaining}"

    def _write(self, text: str, end: str) -> None:
        start = "\r\x1b[K" if self.is_terminal else ""
        self.stream.write(f"{start}{text}{end}")
        self.stream.flush()
