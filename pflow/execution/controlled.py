"""A program that stops with this one: a signal to this process stops it and all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["run_controlled"]


def run_controlled(command: Sequence[str]) -> int:
    """Run a command in a process group of its own, and wait for its end.

    SIGTERM and SIGINT are passed to the whole group as SIGINT, which is what Ctrl-C does in a
    terminal: to SIGTERM, Snakemake waits for its running jobs.

    Returns:
        its exit status; 128 + signal where one was received.
    """
    received: list[int] = []
    child: subprocess.Popen | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        print(
            f"interrupted ({signal.Signals(number).name}): stopping the running jobs; run again"
            " to continue",
            file=sys.stderr,
            flush=True,
        )
        if child is not None:
            _interrupt(child)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        child = subprocess.Popen(command, process_group=0)
        if received:
            _interrupt(child)
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else status


def _interrupt(child: subprocess.Popen) -> None:
    try:
        os.killpg(child.pid, signal.SIGINT)
    except ProcessLookupError:
        return  # it has ended meanwhile
