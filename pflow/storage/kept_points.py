"""Log densities and gradients at the points of Markov chains, kept while they run.

A chain is determined by its seed and by these numbers alone. A run that was killed therefore begins
anew, finds the numbers of its first points here, and continues where it was, without a repeated
evaluation.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["KeptPoints"]

DIGEST = 16  # bytes
FOLDERS = 3  # .checkpoints/OBSERVATION/reference


class KeptPoints:
    """A file that grows by one row a point.

    A row is (digest of the point, digest of the row, value, gradient). A row that is cut off or
    damaged is left out; a file of another identity begins anew. Where the disk is full the points
    are no longer kept, and the run goes on.

    Arguments:
        path: the file; None keeps nothing.
        identity: of what the numbers depend on.
        size: D, unknowns.
    """

    def __init__(self, path: Path | None, identity: str, size: int) -> None:
        self.path = path
        self._row = np.dtype(
            [("point", f"V{DIGEST}"), ("row", f"V{DIGEST}"), ("values", "f8", (size + 1,))]
        )
        self._known: dict[bytes, np.ndarray] = {}
        self._file: BinaryIO | None = None
        if path is not None:
            self._open(path, hashlib.sha256(f"{identity}\0{size}".encode()).digest())

    def find(self, point: np.ndarray) -> tuple[float, np.ndarray] | None:
        """(value, gradient) at a point of the killed run; None at any other."""
        found = self._known.get(_digest(point))
        return None if found is None else (float(found[0]), found[1:])

    def add(self, point: np.ndarray, value: float, gradient: np.ndarray) -> None:
        """Keep one point."""
        if self._file is None:
            return
        row = np.zeros((), self._row)
        row["point"], row["values"] = _digest(point), [value, *gradient]
        row["row"] = _digest(row["point"].tobytes(), row["values"])
        try:
            self._file.write(row.tobytes())
        except OSError:  # a full disk
            self.close()

    def close(self) -> None:
        """Keep nothing more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the file and its folders, as far as they are empty: the run is complete."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in self.path.parents[:FOLDERS]:
                    folder.rmdir()

    def _open(self, path: Path, header: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else b""
        rows = np.empty(0, self._row)
        if content.startswith(header):
            count = (len(content) - len(header)) // self._row.itemsize
            rows = np.frombuffer(content, self._row, count, len(header))
        sound = [
            row
            for row in rows
            if row["row"].tobytes() == _digest(row["point"].tobytes(), row["values"])
        ]
        self._known = {row["point"].tobytes(): row["values"] for row in sound}
        if len(sound) < len(rows) or not len(rows):
            path.write_bytes(header + b"".join(row.tobytes() for row in sound))
        else:
            with path.open("r+b") as whole:
                whole.truncate(len(header) + rows.nbytes)
        self._file = path.open("ab", buffering=0)


def _digest(*parts: np.ndarray | bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.digest()
