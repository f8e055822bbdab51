"""A process that has imported PyTorch once, and runs each job of a local pipeline in a copy (fork)
of itself.

Importing PyTorch, Zarr and xarray takes two seconds, and most jobs take less. A job sees no
difference: the modules of pflow and of users are imported in the copy, from the files as they are
then; folder, environment and standard streams are those of the command; a signal to the command
reaches the copy; if the command or the server is killed, so is the copy.

    command `python -m pflow ...` ──(socket)──► server ──(fork)──► the job
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from typing import IO, Any, NoReturn

from pflow.execution.job_request import SERVER, Request, receive_request
from pflow.execution.threads import limit_threads

__all__ = ["Server", "start_job_server"]

PRELOADED = (
    "torch",
    "torch._dynamo",  # 1.2 s, which the first optimiser of a process imports
    "zarr",
    "xarray",
    "safetensors.torch",
    "scipy.linalg",
    "scipy.stats",
    "jaxtyping",
)
WORTHWHILE = 4
PR_SET_PDEATHSIG = 1


def start_job_server(jobs: int) -> None:
    """Start the server of this process's jobs, and name it in the environment.

    With few jobs it is not worth its own start. It ends with this process, after its last job.
    Linux only: elsewhere, and where PFLOW_JOB_SERVER is set (to nothing, say), each job imports by
    itself.
    """
    if jobs < WORTHWHILE or SERVER in os.environ or not hasattr(os, "pidfd_open"):
        return
    folder = tempfile.mkdtemp(prefix="pflow-")
    path = os.path.join(folder, "jobs")
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.close(os.pidfd_open(os.getpid()))  # Linux 5.3
        listener.bind(path)  # at most 107 bytes
    except OSError:
        os.rmdir(folder)
        return listener.close()
    listener.listen(128)  # commands wait here until the server is ready
    command = [sys.executable, "-m", "pflow.execution.job_server", str(listener.fileno())]
    # The writing end stays open as long as this process lives: its end tells the server.
    lifeline, _ = os.pipe()
    subprocess.Popen(
        command, stdin=lifeline, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
    )
    os.close(lifeline)
    listener.close()
    os.environ[SERVER] = path


class Server:
    """Accepts commands and runs each in a fork.

    Arguments:
        listener: a socket that listens.
        lifeline: a stream that ends when no more commands come.
    """

    def __init__(self, listener: socket.socket, lifeline: IO[bytes]) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(lifeline, selectors.EVENT_READ, self._stop_listening)
        self._jobs: dict[int, socket.socket] = {}
        self._listening = True
        self._request: Request | None = None

    def serve(self) -> Request | None:
        """Serve until the lifeline has ended, and with it the last job.

        Returns:
            in each fork its request, and in the server None at the end.
        """
        while self._listening or self._jobs:
            for key, _ in self._selector.select():
                key.data(key.fileobj)
                if self._request is not None:
                    return self._request
        return None

    def _stop_listening(self, lifeline: Any) -> None:
        self._listening = False
        self._selector.unregister(lifeline)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        request = receive_request(connection)
        if request is None or request.python != sys.executable:
            if request is not None:
                request.close_streams()
            return connection.close()
        server = os.getpid()
        with warnings.catch_warnings():  # the one other thread, of jemalloc, is prepared for forks
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            _end_with(server)
            # The job itself tells that it exists: a client that was told nothing runs it again.
            with contextlib.suppress(OSError):
                connection.sendall(f"{os.getpid()}\n".encode())
            self._request = request
            self._leave_files_of_the_server(connection)
            return
        request.close_streams()
        ended = os.pidfd_open(process)
        self._jobs[ended] = connection
        self._selector.register(ended, selectors.EVENT_READ, lambda _: self._report(ended, process))
        self._selector.register(
            connection, selectors.EVENT_READ, lambda _: self._kill(connection, process)
        )

    def _kill(self, connection: socket.socket, process: int) -> None:
        """A client says nothing after its request: it is gone."""
        self._selector.unregister(connection)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def _report(self, ended: int, process: int) -> None:
        """Send the exit status of a job to its client."""
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        connection = self._jobs.pop(ended)
        self._selector.unregister(ended)
        os.close(ended)
        if connection in self._selector.get_map():
            self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
        connection.close()

    def _leave_files_of_the_server(self, connection: socket.socket) -> None:
        self._selector.close()
        for one in (self._listener, connection, *self._jobs.values()):
            one.close()
        for ended in self._jobs:
            os.close(ended)


def _end_with(server: int) -> None:
    """End this process when the server ends, also if it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(128 + signal.SIGKILL)
    # Ctrl-C reaches a job through its command alone.
    os.setpgid(0, 0)


def _become(request: Request) -> None:
    """Take over folder, environment and streams of the command."""
    for number, descriptor in enumerate(request.streams):
        os.dup2(descriptor, number)
    request.close_streams()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    os.environ.pop(SERVER)
    sys.argv[1:] = request.words
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def main(descriptor: int) -> NoReturn:
    """Import what jobs need, and serve."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its parent, after the last job
    limit_threads(1)
    for name in PRELOADED:
        importlib.import_module(name)
    listener = socket.socket(fileno=descriptor)
    folder = os.path.dirname(listener.getsockname())
    request = Server(listener, sys.stdin.buffer).serve()
    if request is None:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit()
    _become(request)
    runpy.run_module("pflow", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(int(sys.argv[1]))
