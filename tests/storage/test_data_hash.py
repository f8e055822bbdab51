"""A large file of the user is read once for all jobs, and again after every edit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pflow.storage import data_hash as module
from pflow.storage.data_hash import data_hash
from pflow.storage.origins import file_hash


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The files that were read as a whole."""
    files: list[str] = []
    monkeypatch.setattr(module, "file_hash", lambda path: files.append(path) or file_hash(path))
    return files


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A file that was written long ago."""
    path = tmp_path / "pairs.npz"
    path.write_bytes(b"1" * 100)
    now = time.time
    monkeypatch.setattr(module.time, "time", lambda: now() + 60)
    return path


def test_one_job_of_many_reads_the_file(data, read, tmp_path):
    assert {data_hash(data, tmp_path / "pairs/train") for _ in range(20)} == {file_hash(data)}
    assert len(read) == 1


def test_an_edit_that_keeps_size_and_time_is_seen(data, read, tmp_path):
    before, times = data_hash(data, tmp_path), (data.stat().st_atime_ns, data.stat().st_mtime_ns)
    time.sleep(0.02)  # more than a tick of the kernel's clock
    data.write_bytes(b"2" * 100)
    os.utime(data, ns=times)
    assert data_hash(data, tmp_path) == file_hash(data) != before


def test_a_file_that_has_just_been_written_is_read_every_time(data, read, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(module, "file_hash", lambda path: read.append(path) or file_hash(path))
    data_hash(data, tmp_path), data_hash(data, tmp_path)
    assert len(read) == 2


def test_a_damaged_or_unwritable_cache_costs_a_reading_and_nothing_else(data, read, tmp_path):
    data_hash(data, tmp_path)
    (kept,) = (tmp_path / module.FOLDER).iterdir()
    kept.write_text("[1")
    assert data_hash(data, tmp_path) == file_hash(data)
    (tmp_path / "file").write_text("")
    assert data_hash(data, tmp_path / "file") == file_hash(data)
    assert len(read) == 3
