"""One function, called from several threads, in processes that run at the same time.

The processes are forked: they start at once, and the function need not be pickled. They end with
their parent, also if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from pflow.errors import PflowError

__all__ = ["ForkedCalls"]


class ForkedCalls:
    """Processes that call one function; a context manager.

    Arguments:
        function: takes and returns what can be pickled, and raises nothing. It sees the state of
            this process at the start.
        count: processes.
    """

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._idle: queue.Queue[Connection] = queue.Queue()
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, function), daemon=True)
            process.start()
            theirs.close()
            self._idle.put(ours)
            self._processes.append(process)

    def __call__(self, argument: Any) -> Any:
        """The function's result, from the next idle process; waits for one.

        Raises:
            PflowError: the process died.
        """
        connection = self._idle.get()
        try:
            connection.send(argument)
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise PflowError(
                "a process that evaluates the operator died (mostly a lack of memory, or a fault in"
                " compiled code): run again with one core to see why"
            ) from error
        finally:
            self._idle.put(connection)
        return answer

    def __enter__(self) -> ForkedCalls:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """The loop of a process."""
    # Signals reach the whole group of processes: the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        connection.send(function(connection.recv()))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
