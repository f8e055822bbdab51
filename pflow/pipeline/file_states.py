"""The content of files, hashed again only when their size or time has changed.

What was hashed is kept in `.hashes.json` in the folder of results, so that a plan stays fast.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.origins import FileState, file_hash

__all__ = ["FileStates"]

FILE = ".hashes.json"


class FileStates:
    """Size, time and hash of files.

    Arguments:
        results: the folder of results.
    """

    def __init__(self, results: Path) -> None:
        self._file = results / FILE
        self._results = results.absolute()
        self._kept = _read(self._file)
        self._seen: dict[str, FileState | None] = {}
        self._changed = False

    def state(self, path: str, recorded: FileState | None = None) -> FileState | None:
        """The state of a file; None if there is no file, or it cannot be read.

        Arguments:
            path: the file.
            recorded: an earlier state, whose hash is taken if size and time are equal.
        """
        if path not in self._seen:
            self._seen[path] = self._current(path, recorded)
        return self._seen[path]

    def set_earliest(self, path: str, mtime_ns: int) -> None:
        """Give a file that is older than a time that time, if the file may be changed."""
        state = self._seen.get(path)
        try:
            if (state.mtime_ns if state else os.stat(path).st_mtime_ns) < mtime_ns:
                os.utime(path, ns=(mtime_ns, mtime_ns))
                if state:
                    self._keep(path, state._replace(mtime_ns=os.stat(path).st_mtime_ns))
        except OSError:
            return

    def save(self) -> None:
        """Keep the hashes for the next plan, if the folder can be written."""
        if self._changed and self._results.is_dir():
            with contextlib.suppress(PflowError), replacing(self._file) as temporary:
                temporary.write_text(json.dumps(self._kept) + "\n", encoding="utf-8")

    def _current(self, path: str, recorded: FileState | None) -> FileState | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        for earlier in (recorded, self._kept.get(self._key(path))):
            if earlier and (status.st_size, status.st_mtime_ns) == (earlier[0], earlier[1]):
                return FileState(*earlier)
        try:
            state = FileState(status.st_size, status.st_mtime_ns, file_hash(path))
        except OSError:
            return None
        self._keep(path, state)
        return state

    def _keep(self, path: str, state: FileState) -> None:
        self._seen[path] = state
        self._kept[self._key(path)] = [*state]
        self._changed = True

    def _key(self, path: str) -> str:
        """Relative to the results, so that it stays when their folder moves."""
        absolute = os.path.abspath(path)
        prefix = f"{self._results}{os.sep}"
        return absolute.removeprefix(prefix)


def _read(file: Path) -> dict[str, list]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {path: [*FileState(*state)] for path, state in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
