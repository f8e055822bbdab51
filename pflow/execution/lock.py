"""A lock file with the name of its owner, whose modification time is the owner's heartbeat.

A controller that was killed and started again submits jobs that may still be running. The second
job for the same output waits while the first one runs, and takes over when its process has ended:

    owner in the same PID namespace   its process no longer exists: dead at once
    any other owner                   its heartbeat (the time of the file) has not moved for
                                      STALE_SECONDS, as seen from here, so that clocks that disagree
                                      do not matter

Containers may share a host name and each number their processes from 1, so a process number is
unique only within one PID namespace of one boot of one machine.

`filelock.SoftFileLease` was tried in place of this module. It compares PID namespaces too, but it
takes the lock from a live process of the same host whose heartbeat stalls (a long call that holds
the interpreter lock, a suspended machine), and a process killed between creating and writing the
lock file blocks every later job.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pflow.errors import PassingError
from pflow.storage.atomic import way_out

__all__ = ["JobLock", "running_owner"]

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
SETTLE_SECONDS = 1.0


class JobLock:
    """Context in which no other process works on the same job.

    Arguments:
        path: the lock file; its folder is made.
        heartbeat: seconds between two beats.
        stale: seconds without a beat after which an owner elsewhere counts as dead.

    Attributes:
        waited: whether this process waited for another owner.
    """

    def __init__(
        self, path: Path, heartbeat: float = HEARTBEAT_SECONDS, stale: float = STALE_SECONDS
    ) -> None:
        self.path, self.heartbeat, self.stale = path, heartbeat, stale
        self.waited = False
        self.token = uuid.uuid4().hex
        self._stop = threading.Event()

    def __enter__(self) -> JobLock:
        try:
            while not self._create():
                if self._wait_for_the_owner() and self._take_over():
                    break
        except OSError as error:
            raise PassingError(
                f"cannot write {self.path}: {error.strerror or error}: {way_out(error)}"
            ) from error
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Atomic, also on network file systems: only one process can link the name."""
        with self._written() as mine:
            try:
                os.link(mine, self.path)
            except FileExistsError:
                return False
        return True

    def _take_over(self) -> bool:
        """Replace the name of a dead owner by that of this process; if several do so, the last one
        holds the lock.
        """
        with self._written() as mine:
            os.replace(mine, self.path)
        time.sleep(SETTLE_SECONDS)
        return _read(self.path).get("token") == self.token

    @contextmanager
    def _written(self) -> Iterator[Path]:
        """A file of this process beside the lock, which is removed in any case."""
        mine = self.path.with_name(f"{self.path.name}.{self.token}")
        text = json.dumps({"token": self.token, **_this_process()})
        try:
            while True:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    mine.write_text(text, encoding="utf-8")
                    break
                except FileNotFoundError:  # an owner that ends removes its empty folder
                    continue
            yield mine
        finally:
            mine.unlink(missing_ok=True)

    def _wait_for_the_owner(self) -> bool:
        """Wait until the owner is dead (True), or has released the lock, whose file is then absent
        (False).
        """
        seen: tuple[str, int] | None = None
        since = reported = time.monotonic()
        while True:
            try:
                owner, beat = _read(self.path), self.path.stat().st_mtime_ns
            except FileNotFoundError:
                return False
            alive = _lives_here(owner)
            if alive is False:
                print(
                    f"taking over from {_describe(owner)}, which no longer runs",
                    file=sys.stderr,
                    flush=True,
                )
                return True
            now = time.monotonic()
            if (owner.get("token", ""), beat) != seen:
                seen, since = (owner.get("token", ""), beat), now
            elif alive is None and now - since > self.stale:
                print(
                    f"taking over from {_describe(owner)}, whose heartbeat stopped",
                    file=sys.stderr,
                    flush=True,
                )
                return True
            if not self.waited or now - reported > 60:
                self.waited, reported = True, now
                print(
                    f"waiting for {_describe(owner)}, which is making the same files ({self.path})",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(min(1.0, self.heartbeat))

    def _beat(self) -> None:
        while not self._stop.wait(self.heartbeat):
            try:
                if _read(self.path).get("token") == self.token:
                    os.utime(self.path)
                elif not self._stop.is_set():
                    print(
                        f"stopped: {_describe(_read(self.path))} took over ({self.path})",
                        file=sys.stderr,
                        flush=True,
                    )
                    # Exit at once: every file is written atomically, and the new owner must not be
                    # disturbed.
                    os._exit(1)
            except OSError:
                continue  # a network file system may be unreachable for a moment


def running_owner(path: Path) -> str:
    """Who holds the lock `path`; empty if nobody does, or a process of this machine that has
    ended.
    """
    owner = _read(path)
    return "" if not path.is_file() or _lives_here(owner) is False else _describe(owner)


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "namespace": _pid_namespace(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def _lives_here(owner: dict[str, Any]) -> bool | None:
    """Whether the owner's process exists; None where that cannot be seen from here."""
    if not owner.get("namespace") or owner["namespace"] != _pid_namespace():
        return None
    return _start_time(owner.get("pid", 0)) == owner.get("started") != ""


def _pid_namespace() -> str:
    """The PID namespace in which `/proc` numbers this process, with the boot it belongs to.

    The empty string where there is none to name: outside Linux, or if `/proc` is mounted from
    another namespace, whose numbers are not those of `os.getpid()`.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a process began, in ticks since boot: a number reused by another process differs.

    The empty string if there is no such process, or only its unreaped remains.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _read(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _describe(owner: dict[str, Any]) -> str:
    job = f"SLURM job {owner['job']}, " if owner.get("job") else ""
    return f"{job}process {owner.get('pid', '?')} on {owner.get('host', 'an unknown host')}"
