"""Asks the server of jobs (`job_server`) to run a stage, which spares the import of PyTorch.

Standard library only: it is imported before anything else, in each job of the pipeline.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

__all__ = ["SERVER", "Request", "receive_request", "run_by_server"]

SERVER = "PFLOW_JOB_SERVER"
"""The environment variable with the path of the server's socket."""

STREAMS = (0, 1, 2)
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
COUNTS = ("--threads", "--devices", "--nodes")
LONGEST = 2**24
DIED = 128 + signal.SIGKILL


class Request:
    """A command to run: its words, folder, environment and open standard streams.

    Arguments:
        words: the command line after `python -m pflow`.
        folder: the working folder.
        environment: all variables.
        python: the interpreter that the command was started with.
        streams: file descriptors of standard input, output and error.
    """

    def __init__(
        self,
        words: list[str],
        folder: str,
        environment: dict[str, str],
        python: str,
        streams: Sequence[int] = STREAMS,
    ) -> None:
        self.words, self.folder, self.environment = words, folder, environment
        self.python, self.streams = python, tuple(streams)

    def close_streams(self) -> None:
        """Close the file descriptors that a client has sent."""
        for descriptor in self.streams:
            os.close(descriptor)


def run_by_server(words: Sequence[str]) -> int | None:
    """Run `python -m pflow WORDS` in a process of the server, and wait for its end.

    Signals SIGTERM and SIGINT are passed on. When this process is killed, so is the other.

    Returns:
        the exit status; None where there is no server or it cannot run this command, which nothing
        of has run then.
    """
    path = os.environ.get(SERVER)
    if not path or not _runs_on_one_thread(words):
        return None
    request = Request(list(words), os.getcwd(), dict(os.environ), sys.executable)
    with socket.socket(socket.AF_UNIX) as connection:
        with _signals_wait():
            try:
                connection.connect(path)
                _send(connection, request)
                answer = connection.makefile("r")
                process = answer.readline()
            except OSError:
                return None
            if not process:
                return None
            _pass_on_signals(int(process))
        # The server is killed with its jobs, so an end without a status is one by SIGKILL.
        return int(answer.readline() or DIED)


def receive_request(connection: socket.socket) -> Request | None:
    """The request that a client has sent; None if it is gone or is not of this program."""
    connection.settimeout(10)
    streams: list[int] = []
    try:
        text, streams, _, _ = socket.recv_fds(connection, 65536, len(STREAMS))
        while text and not text.endswith(b"\n") and len(text) < LONGEST:
            text += connection.recv(65536)
        if len(streams) == len(STREAMS):
            return Request(**json.loads(text), streams=streams)
    except (OSError, ValueError, TypeError):
        pass
    for descriptor in streams:
        os.close(descriptor)
    return None


def _send(connection: socket.socket, request: Request) -> None:
    content = {
        "words": request.words,
        "folder": request.folder,
        "environment": request.environment,
        "python": request.python,
    }
    text = json.dumps(content).encode() + b"\n"
    sent = socket.send_fds(connection, [text], request.streams)
    connection.sendall(text[sent:])


def _runs_on_one_thread(words: Sequence[str]) -> bool:
    """Whether a command is of a stage on one thread: the libraries that the server has loaded read
    the number of threads before.
    """
    counts = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i] in COUNTS}
    return "--threads" in counts and set(counts.values()) == {"1"}


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Context at whose end the signals act that have come meanwhile."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)


def _pass_on_signals(process: int) -> None:
    def pass_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
