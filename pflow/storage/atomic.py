"""Atomic writing of files and folders.

New content is written beside its place under a temporary name and then renamed. A kill at any
moment leaves the old or the new content, and at most a folder `.NAME.xxxxxxxx.partial`, which the
next run of the job removes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pflow.errors import PassingError

__all__ = ["replacing", "way_out"]

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; on success it replaces `path`, on any failure it is removed
    and `path` is unchanged. Of a link to a folder the folder is replaced, and the link stays.

    Raises:
        PflowError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if path.is_symlink() and not path.is_file():
        path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise PassingError(
            f"cannot write to {path.parent}: {error.strerror or error}: {way_out(error)}"
        ) from error
    try:
        yield folder / path.name
        _swap(folder / path.name, path, folder / "old")
    except Exception as error:
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or "No space left on device"
        raise PassingError(
            f"cannot write {path}: {reason}: what was there before is unchanged; {way_out(error)}"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def way_out(error: Exception) -> str:
    """What a user can do about a file that cannot be written."""
    if getattr(error, "errno", None) in FULL or "No space left" in str(error):
        return "free some space and run again"
    return "make the folder writable, or choose another `results`, and run again"


def _swap(new: Path, path: Path, old: Path) -> None:
    """Replace `path` by `new`; an existing folder moves to `old`, and back after an error."""
    if new.is_file():
        with new.open("rb") as file:
            os.fsync(
                file.fileno()
            )  # after a power loss either the old or the new file exists, never an empty one
    if path.is_dir():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
