"""Jobs in forks of a server: as if each were started by itself, and none outlives its command."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pflow.execution.job_request import SERVER
from pflow.execution.job_server import start_job_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")

# The first word of a command is Python code here, instead of the name of a stage.
SERVE = """
import runpy, sys, pflow.execution.job_server as server
server.PRELOADED = ()
{before}
runpy.run_module = lambda *_, **__: exec(sys.argv[1])
server.main({descriptor})
"""
ASK = """
import sys
from pflow.execution.job_request import run_by_server
sys.exit(run_by_server(sys.argv[1:]))
"""
WAIT = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
SLOW_AFTER_A_FORK = """
import os, time
open_process = os.pidfd_open
os.pidfd_open = lambda process: time.sleep(2) or open_process(process)
"""
NOT_SERVED = "import sys; from pflow.execution.job_request import run_by_server as ask; "


class Running:
    """A server and its socket."""

    def __init__(self, path: str, before: str) -> None:
        self.path = path
        self.commands: list[subprocess.Popen] = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE.format(before=before, descriptor=listener.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )

    def start(self, code: str, **options) -> subprocess.Popen:
        """A command that asks the server."""
        environment = {**os.environ, SERVER: self.path, **options.pop("env", {})}
        command = subprocess.Popen(
            [sys.executable, "-c", ASK, code, "--threads", "1"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self.commands.append(command)
        return command


@pytest.fixture
def server(request) -> Iterator[Running]:
    folder = tempfile.mkdtemp()  # a socket's path is short
    running = Running(f"{folder}/jobs", before=getattr(request, "param", ""))
    yield running
    running.process.kill()
    running.process.wait()
    running.process.stdin.close()
    for command in running.commands:
        command.wait(20)
        command.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_job_has_the_words_folder_environment_and_streams_of_its_command(server, tmp_path):
    folder = tmp_path / "else where"
    folder.mkdir()
    code = (
        "import os; print(sys.argv[2:], os.getcwd(), os.environ['OF_THE_COMMAND'],"
        f" '{SERVER}' in os.environ); print('an error', file=sys.stderr); sys.exit(3)"
    )

    command = server.start(code, cwd=folder, env={"OF_THE_COMMAND": "yes"})

    printed, _ = command.communicate(timeout=20)
    assert "an error" in printed
    assert f"['--threads', '1'] {folder} yes False" in printed
    assert command.returncode == 3


def test_a_signal_to_the_command_reaches_the_job(server):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        " print(flush=True); time.sleep(60)"
    )
    command = server.start(code)
    command.stdout.readline()

    command.terminate()

    assert command.wait(20) == 7


def test_a_job_killed_by_a_signal_has_the_status_of_a_shell(server):
    command = server.start("import os; os.kill(os.getpid(), 9)")
    assert command.wait(20) == 128 + signal.SIGKILL


@pytest.mark.parametrize("killed", ["command", "server"])
def test_no_job_outlives_its_command_or_the_server(server, killed):
    command = server.start(WAIT)
    job = int(command.stdout.readline())

    (command if killed == "command" else server.process).kill()

    assert command.wait(20) == (-9 if killed == "command" else 128 + 9)
    assert has_ended(job)


@pytest.mark.parametrize("server", [SLOW_AFTER_A_FORK], indirect=True)
def test_a_job_that_has_started_is_not_run_again_when_the_server_dies_at_once(server):
    command = server.start(WAIT)
    command.stdout.readline()

    server.process.kill()

    assert command.wait(20) == 128 + 9


def test_the_server_ends_after_its_last_job_when_no_commands_can_come(server):
    command = server.start("import time; print(flush=True); time.sleep(1); print('whole')")
    command.stdout.readline()

    server.process.stdin.close()

    assert command.stdout.read() == "whole\n"
    assert server.process.wait(20) == 0 and not Path(server.path).parent.exists()


def test_a_command_of_another_interpreter_runs_by_itself(server, tmp_path):
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    code = NOT_SERVED + "print(ask(['sys.exit(3)', '--threads', '1']))"
    environment = {**os.environ, SERVER: server.path, "PYTHONPATH": os.pathsep.join(sys.path)}

    printed = subprocess.check_output([str(other), "-c", code], env=environment, text=True)

    assert printed == "None\n"


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["--threads", "2"], "jobs"),
        (["--threads", "1", "--devices", "2"], "jobs"),
        (["status"], "jobs"),
        (["--threads", "1"], "nothing is there"),
        (["--threads", "1"], ""),
    ],
    ids=["two threads", "two processes", "no stage", "a dead server", "switched off"],
)
def test_a_command_that_the_server_cannot_run_runs_by_itself(server, words, path):
    code = NOT_SERVED + f"print(ask({words!r}))"
    path = path and str(Path(server.path).with_name(path))

    printed = subprocess.check_output(
        [sys.executable, "-c", code], env={**os.environ, SERVER: path}, text=True
    )

    assert printed == "None\n"


def test_few_jobs_and_an_environment_that_forbids_it_start_no_server(monkeypatch):
    monkeypatch.delenv(SERVER, raising=False)
    start_job_server(jobs=1)
    assert SERVER not in os.environ

    monkeypatch.setenv(SERVER, "")
    start_job_server(jobs=100)
    assert os.environ[SERVER] == ""


def has_ended(process: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
