"""Run one stage under a lock, clean up temporary files, do not retry permanent errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pflow.errors import PassingError, PflowError
from pflow.execution import lock as lock_module
from pflow.execution.job import job
from pflow.execution.lock import JobLock

HOLD = """
import sys, time
from pathlib import Path
from pflow.execution.lock import JobLock
with JobLock(Path(sys.argv[1]), heartbeat=0.2):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock_module, "SETTLE_SECONDS", 0.2)


def holder(path, seconds: float = 60.0, within: tuple[str, ...] = ()) -> subprocess.Popen:
    """A process that holds the lock; `within` is a command that it runs under."""
    process = subprocess.Popen(
        [*within, sys.executable, "-c", HOLD, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_free_lock_is_taken_at_once_names_its_owner_and_vanishes(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    path = tmp_path / "deep" / ".state.lock"
    with JobLock(path) as held:
        owner = json.loads(path.read_text())
        assert owner["pid"] == os.getpid() and owner["job"] == "4711" and owner["host"]
        assert not held.waited
    assert list(path.parent.iterdir()) == []


def test_a_live_owner_is_waited_for(tmp_path, capsys):
    process = holder(tmp_path / "lock", seconds=1.5)
    began = time.monotonic()
    with JobLock(tmp_path / "lock", heartbeat=0.1) as held:
        assert held.waited and time.monotonic() - began > 0.5
    assert f"waiting for process {process.pid} on" in capsys.readouterr().err
    process.wait()
    process.stdout.close()


def test_a_killed_owner_is_replaced_at_once(tmp_path, capsys):
    process = holder(tmp_path / "lock")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    began = time.monotonic()
    with JobLock(tmp_path / "lock"):
        assert time.monotonic() - began < 2
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert "which no longer runs" in capsys.readouterr().err


IN_ANOTHER_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def another_pid_namespace() -> bool:
    """Whether this process may start another in a PID namespace of its own."""
    if not shutil.which("unshare"):
        return False
    return not subprocess.run([*IN_ANOTHER_PID_NAMESPACE, "true"], capture_output=True).returncode


@pytest.mark.skipif(not another_pid_namespace(), reason="no permission to make a PID namespace")
@pytest.mark.parametrize("ends", ["releases", "killed"])
def test_an_owner_in_another_pid_namespace_of_this_host_lives_while_its_heart_beats(tmp_path, ends):
    path = tmp_path / "lock"
    seconds = 2.5 if ends == "releases" else 60.0
    process = holder(path, seconds, IN_ANOTHER_PID_NAMESPACE)
    owner = json.loads(path.read_text())
    assert owner["host"] == socket.gethostname() and owner["pid"] != process.pid
    if ends == "killed":
        process.kill()  # unshare takes the namespace down with it
        process.wait()
    began = time.monotonic()
    with JobLock(path, heartbeat=0.1, stale=1.5):
        waited = time.monotonic() - began
    assert waited > 1.4
    process.wait()
    process.stdout.close()


def test_a_process_number_of_an_unknown_namespace_says_nothing(tmp_path):
    """A lock file without a namespace, and `/proc` without one, leave the heartbeat to decide."""
    own = lock_module._this_process()
    assert lock_module._lives_here(own) is True
    assert lock_module._lives_here({**own, "pid": 2**22 + 1}) is False
    assert lock_module._lives_here({**own, "pid": 2**22 + 1, "namespace": ""}) is None
    assert lock_module._lives_here({"host": own["host"], "pid": 1, "started": "1"}) is None


def elsewhere(path) -> None:
    path.write_text(
        json.dumps({"token": "other", "host": "another-node", "pid": 1, "started": "", "job": "12"})
    )


def test_an_owner_elsewhere_is_dead_when_its_heart_stops(tmp_path, capsys):
    elsewhere(tmp_path / "lock")
    os.utime(
        tmp_path / "lock", (time.time() + 9999,) * 2
    )  # a clock that runs ahead must not matter
    began = time.monotonic()
    with JobLock(tmp_path / "lock", heartbeat=0.1, stale=1.0):
        assert time.monotonic() - began > 1.0
    assert (
        "SLURM job 12, process 1 on another-node, whose heartbeat stopped"
        in capsys.readouterr().err
    )


def test_an_owner_elsewhere_lives_while_its_heart_beats(tmp_path):
    path, stop = tmp_path / "lock", threading.Event()
    elsewhere(path)

    def beat() -> None:
        for _ in range(12):
            time.sleep(0.2)
            os.utime(path)
        path.unlink()
        stop.set()

    threading.Thread(target=beat).start()
    with JobLock(path, heartbeat=0.1, stale=1.0):
        assert stop.is_set()


def test_of_many_that_take_over_one_has_it(tmp_path):
    elsewhere(tmp_path / "lock")
    inside, most = [], []

    def work() -> None:
        with JobLock(tmp_path / "lock", heartbeat=0.1, stale=0.5):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(most) == 4 and max(most) == 1


def test_an_owner_that_lost_its_lock_stops(tmp_path):
    process = holder(tmp_path / "lock")
    elsewhere(tmp_path / "lock")
    assert process.wait(timeout=10) == 1
    process.stdout.close()
    assert json.loads((tmp_path / "lock").read_text())["token"] == "other"


def fail(tmp_path, error: Exception, attempt: int = 1, identity: str = "a") -> None:
    with job(tmp_path / "metrics.json", None, identity, attempt):
        raise error


def test_a_lasting_error_is_not_tried_again(tmp_path):
    with pytest.raises(PflowError):
        fail(tmp_path, PflowError("`depth` is wrong"))
    with pytest.raises(PflowError, match="`depth` is wrong .*not tried again"):
        fail(tmp_path, AssertionError("ran"), attempt=2)
    with pytest.raises(AssertionError, match="ran"):  # other settings
        fail(tmp_path, AssertionError("ran"), attempt=2, identity="b")
    with pytest.raises(PflowError):
        fail(tmp_path, PflowError("again"))
    with pytest.raises(AssertionError, match="ran"):  # a person started it again
        fail(tmp_path, AssertionError("ran"), attempt=1)
    with job(tmp_path / "metrics.json", None, "a", 2):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PassingError("disk full"), RuntimeError("CUDA out of memory")])
def test_what_can_heal_is_tried_again(tmp_path, error):
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    with job(tmp_path / "metrics.json", None, "a", 2):
        pass


def test_litter_of_a_killed_run_is_removed_and_that_of_others_is_not(tmp_path):
    checkpoint = tmp_path / ".checkpoints/run/state.safetensors"
    mine = [
        tmp_path / ".flow.abc.partial",
        tmp_path / "flow/.flow.json.abc.partial",
        checkpoint.parent / ".evaluations.zarr.abc.partial",
    ]
    other = [tmp_path / ".flow2.abc.partial", tmp_path / "flow/.posterior.zarr.abc.partial"]
    for folder in mine + other:
        folder.mkdir(parents=True)
    with job(tmp_path / "flow", checkpoint, "a"):
        assert not any(f.exists() for f in mine) and all(f.exists() for f in other)
    assert not (tmp_path / ".checkpoints").exists()
