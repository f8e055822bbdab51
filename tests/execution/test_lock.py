"""A lock whose folder goes, whose disk is full, and whose owner is killed at any moment."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from pflow.errors import PassingError
from pflow.execution import lock as lock_module
from pflow.execution.job import job
from pflow.execution.lock import JobLock


def test_an_owner_that_removes_the_folder_does_not_stop_a_waiting_job(tmp_path, monkeypatch):
    """The job that ends removes the empty folder of its checkpoint, in which the next one waits."""
    path = tmp_path / ".checkpoints/run/.state.lock"
    owner = JobLock(path, heartbeat=0.1)
    owner.__enter__()
    waiting, wait = threading.Event(), JobLock._wait_for_the_owner

    def release_when_waiting(lock: JobLock) -> bool:
        waiting.set()
        dead = wait(lock)
        thread.join()
        assert not path.parent.exists()
        return dead

    monkeypatch.setattr(JobLock, "_wait_for_the_owner", release_when_waiting)

    def end() -> None:
        waiting.wait()
        owner.__exit__()
        path.parent.rmdir()

    thread = threading.Thread(target=end)
    thread.start()
    with JobLock(path, heartbeat=0.1):
        assert path.is_file()


def test_a_folder_that_goes_just_before_the_lock_is_written_is_made_again(tmp_path, monkeypatch):
    path = tmp_path / ".checkpoints/run/.state.lock"
    write, gone = Path.write_text, []

    def write_late(file: Path, *arguments: object, **named: object) -> int:
        if not gone:
            gone.append(file)
            path.parent.rmdir()
        return write(file, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", write_late)
    with JobLock(path):
        assert gone and path.is_file()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock_module, "SETTLE_SECONDS", 0.1)


@pytest.mark.parametrize("full", ["write", "link"])
def test_a_full_disk_is_said_and_no_file_of_the_lock_stays(tmp_path, monkeypatch, full):
    """With 0 bytes left a file can be made and nothing written into it."""

    def no_space(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_nothing(file: Path, *arguments: object, **named: object) -> None:
        file.touch()
        no_space()

    if full == "write":
        monkeypatch.setattr(Path, "write_text", write_nothing)
    else:
        monkeypatch.setattr(lock_module.os, "link", no_space)
    with (
        pytest.raises(PassingError, match="No space left on device: free some space"),
        job(tmp_path / "metrics.json", None, "a"),
    ):
        raise AssertionError("has no lock")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"7", b"[]", b"\xff\xfe\x9c"])
def test_damaged_files_of_a_lock_and_of_a_failure_stop_nothing(tmp_path, content):
    (tmp_path / ".metrics.json.failed").write_bytes(content)
    (tmp_path / ".metrics.json.lock").write_bytes(content)
    with JobLock(tmp_path / ".metrics.json.lock", heartbeat=0.1, stale=0.5):
        pass
    with job(tmp_path / "metrics.json", None, "a", attempt=2):
        pass
    assert list(tmp_path.iterdir()) == []
