"""The store of evaluations: what the expensive operator has already told, so that it is never asked
twice.

An append-only Zarr store of x, log-likelihood, log-prior, score, seconds and the round that drew
the point. It belongs to one target (problem, observation, code); a killed run, or one with a larger
budget, draws the same points from the same seed, finds them here, and asks the operator only for
what is new. The result never depends on what the store held.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import zarr

from pflow.errors import PflowError

__all__ = ["FIELDS", "EvaluationStore", "finished_run"]

FIELDS = ("x", "score", "log_likelihood", "log_prior", "seconds", "round")
RUN = "run"  # rows that the last completed run asked for, in its order
CHUNK_ROWS = 256
# Operator time that a kill may cost, at most (a batch that takes longer is written at once)
FLUSH_SECONDS = 1.0


class EvaluationStore:
    """Evaluations of one target, in memory and on disk.

    The attribute `count` is written last: rows beyond it belong to an append that a kill cut short,
    and are overwritten.

    Arguments:
        path: the store; None keeps evaluations in memory alone.
        identity: fingerprint of the target; what lies at `path` under another one is replaced.
    """

    def __init__(self, path: Path | None, identity: str = "") -> None:
        self.path = path
        self._count = 0
        self._index: dict[bytes, int] = {}
        self._memory: dict[
            str, np.ndarray
        ] = {}  # grown by doubling; the rows beyond len(self) are empty
        self._room = 0  # rows that fit
        self._written = 0
        self._unsaved_seconds = 0.0
        self.identity = identity
        if path is not None:
            self._open()

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """Every evaluation: each field, (evaluations, ...)."""
        return {name: values[: len(self)] for name, values in self._memory.items()}

    def find(self, x: np.ndarray) -> np.ndarray:
        """Row of each of the points `x`, (batch, *model); -1 where it has not been evaluated."""
        return np.array([self._index.get(key, -1) for key in _keys(x)], dtype=np.int64)

    def take(self, rows: np.ndarray, fields: Iterable[str] = FIELDS) -> dict[str, np.ndarray]:
        """Fields of evaluated points, by row."""
        return {name: self._memory[name][rows] for name in fields}

    def append(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Add evaluated points, and say where `find` has them now; they are on disk once a second
        of operator time is unsaved, or at `flush`.
        """
        keys, first = _keys(batch["x"]), len(self)
        total = first + len(keys)
        for name in FIELDS:
            if total > self._room:
                grown = np.empty((2 * total, *batch[name].shape[1:]), dtype=batch[name].dtype)
                grown[:first] = self._memory[name][:first] if first else 0
                self._memory[name] = grown
            self._memory[name][first:total] = batch[name]
        self._room = len(self._memory["x"])
        self._index.update(zip(keys, range(first, total), strict=True))
        self._count = total
        self._unsaved_seconds += sum(batch["seconds"].tolist())
        if self._unsaved_seconds >= FLUSH_SECONDS:
            self.flush()
        return np.array([self._index[key] for key in keys], dtype=np.int64)

    def flush(self) -> None:
        """Write everything that is not on disk yet.

        Raises:
            PflowError: the store cannot be written; what is on disk stays valid.
        """
        total = len(self)
        if self.path is None or total == self._written:
            return
        try:
            group = zarr.open_group(self.path, mode="a", zarr_format=3)
            for name, values in self.rows.items():
                if name not in group:
                    group.create_array(
                        name,
                        shape=(0, *values.shape[1:]),
                        chunks=(CHUNK_ROWS, *values.shape[1:]),
                        dtype=values.dtype,
                        fill_value=0,
                    )
                group[name].resize((total, *values.shape[1:]))
                group[name][self._written :] = values[self._written :]
            group.attrs.update(
                {
                    "identity": self.identity,
                    "count": total,
                    "updated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
            )
        except OSError as error:
            raise PflowError(
                f"cannot write the evaluations to {self.path}: {error.strerror or error}: free some"
                " space and run again; nothing evaluated before is lost"
            ) from error
        self._written, self._unsaved_seconds = total, 0.0

    def finish(self, rows: np.ndarray) -> None:
        """Write everything, and which rows the completed run asked for: what another run may build
        upon.
        """
        self.flush()
        if self.path is not None and len(rows):
            zarr.open_group(self.path, mode="a").create_array(
                RUN, data=rows.astype(np.int64), overwrite=True
            )

    def _open(self) -> None:
        if not self.path.exists():
            return
        try:
            group = zarr.open_group(self.path, mode="r")
            count = int(group.attrs["count"])
            if group.attrs["identity"] != self.identity:
                raise KeyError("another target")
            self._memory = {name: group[name][:count] for name in FIELDS}
        except (KeyError, ValueError, OSError):
            shutil.rmtree(self.path)
            return
        self._count = self._written = self._room = count
        self._index = {key: row for row, key in enumerate(_keys(self._memory["x"]))}


def finished_run(path: Path, identity: str) -> dict[str, np.ndarray]:
    """The evaluations of the last completed run, in the order asked, and nothing that an earlier
    run has left in its store.

    Arguments:
        path: its store, which is only read.
        identity: of the target; evaluations of another one are of no use.

    Raises:
        PflowError: the store is missing, damaged or of another target.
    """
    way_out = "delete the weights of that method and run snakemake again"
    try:
        group = zarr.open_group(path, mode="r")
        if group.attrs["identity"] != identity:
            raise PflowError(
                f"the evaluations in {path} are of another problem, observation or prior, or hold"
                f" no scores: {way_out}"
            )
        rows = group[RUN][:]
        return {name: group[name][:][rows] for name in FIELDS}
    except (KeyError, ValueError, OSError) as error:
        raise PflowError(
            f"{path} holds no evaluations of a completed run to reuse: {way_out}"
        ) from error


def _keys(x: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(x)]
