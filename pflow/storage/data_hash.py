"""The hash of a large file of the user, read once for all jobs that depend on it.

What was hashed lies in `.data_hashes` beside the results of these jobs, one small file each. It is
taken again while size, device, inode, and the times of the last change of content (mtime) and of
the inode (ctime) are the same. No program can set ctime, so an edit that keeps size and mtime is
seen; and a file that was changed less than `SETTLED` seconds before it was hashed is hashed again,
because a second edit within the resolution of the clock would leave every time as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.origins import file_hash

__all__ = ["data_hash"]

FOLDER = ".data_hashes"
SETTLED = 3.0  # seconds; file systems keep times to two seconds or better


def data_hash(file: str | Path, results: Path) -> str:
    """`file_hash` of a file of the user.

    Arguments:
        file: the file.
        results: the folder of the results, where the hash is kept.

    Raises:
        OSError: the file cannot be read.
    """
    path = os.path.abspath(file)
    kept = results / FOLDER / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
    began, state = time.time(), _state(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["hash"])
    found = file_hash(path)
    settled = began - max(state["mtime_ns"], state["ctime_ns"]) / 1e9 > SETTLED
    if settled and _state(path) == state:
        with contextlib.suppress(PflowError, OSError):  # a cache alone
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps({"state": state, "hash": found}), encoding="utf-8")
    return found


def _state(path: str) -> dict[str, int]:
    status = os.stat(path)
    return {
        "size": status.st_size,
        "device": status.st_dev,
        "inode": status.st_ino,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }
