"""In which of several tasks a process died (a fault in compiled code, a lack of memory): the next
process leaves these to the end, so that they keep no other from being done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pflow.storage.atomic import replacing

__all__ = ["Deaths"]


class Deaths:
    """The tasks in which earlier processes have died.

    Arguments:
        path: the file that names them, and the task in hand; removed where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = _read(path)

    def last(self, names: Iterable[str]) -> list[str]:
        """The tasks in their order, but those at the end in which a process has died."""
        return sorted(names, key=lambda name: name in self._names)

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Context of one task: if the process dies in it, the file says so."""
        others = [other for other in self._names if other != name]
        self._write([*others, name])
        try:
            yield
        finally:
            self._names = others
            self._write(others)

    def _write(self, names: list[str]) -> None:
        if not names:
            return self._path.unlink(missing_ok=True)
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(names), encoding="utf-8")


def _read(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
