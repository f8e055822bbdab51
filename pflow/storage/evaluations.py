"""The store of evaluations: what the expensive operator has already told, so that it is never asked
twice.

An append-only Zarr store of x, F(x), log-likelihood, log-prior, score, seconds and the round that
drew the point. It belongs to one target (problem, observation, code); a killed run, or one with a
larger budget, draws the same points from the same seed, finds them here, and asks the operator only
for what is new. The result never depends on what the store held: each row carries a hash, and rows
that are not what was written are evaluated again.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from pflow.errors import PassingError, PflowError
from pflow.storage.atomic import way_out
from pflow.storage.dimensions import dimension_names
from pflow.storage.zarr_files import consolidate, open_group

__all__ = ["FIELDS", "EvaluationStore", "finished_run"]

FIELDS = ("x", "score", "log_likelihood", "log_prior", "prediction", "seconds", "round")
HASH = "hash"  # of each row, (evaluations, HASH_BYTES)
HASH_BYTES = 16
RUN = "run"  # rows that the last completed run asked for, in its order
RUN_HASH = "run_hash"
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

    Attributes:
        loaded: how many of its rows an earlier process has written.
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
        self.loaded = 0
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
            group = _to_write(self.path)
            new = {name: values[self._written :] for name, values in self.rows.items()}
            new[HASH] = _hashes(new, self.identity)
            for name, values in new.items():
                if name not in group:
                    group.create_array(
                        name,
                        shape=(0, *values.shape[1:]),
                        chunks=(CHUNK_ROWS, *values.shape[1:]),
                        dtype=values.dtype,
                        fill_value=0,
                        compressors=(ZstdCodec(level=3), Crc32cCodec()),
                        dimension_names=dimension_names(name, values.ndim, first="evaluation"),
                    )
                group[name].resize((total, *values.shape[1:]))
                group[name][self._written :] = values
            group.attrs.update(
                {
                    "identity": self.identity,
                    "count": total,
                    "updated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
            )
            consolidate(self.path)
        except OSError as error:
            raise PassingError(
                f"cannot write the evaluations to {self.path}: {error.strerror or error}:"
                f" {way_out(error)}; nothing evaluated before is lost"
            ) from error
        self._written, self._unsaved_seconds = total, 0.0

    def finish(self, rows: np.ndarray) -> None:
        """Write everything, and which rows the completed run asked for: what another run may build
        upon.
        """
        self.flush()
        if self.path is not None and len(rows):
            group = _to_write(self.path)
            group.create_array(
                RUN, data=rows.astype(np.int64), overwrite=True, dimension_names=["asked"]
            )
            group.attrs[RUN_HASH] = _hash_of_run(rows)
            consolidate(self.path)

    def _open(self) -> None:
        if not self.path.exists():
            return
        try:
            group = open_group(self.path)
            if group.attrs["identity"] != self.identity:
                raise KeyError("another target")
            stored, sound = _read(group)
        except (KeyError, ValueError, TypeError, AttributeError, OSError):
            self._remove()
            return
        damaged = int((~sound).sum())
        if damaged:
            print(
                f"{damaged} of {len(sound)} evaluations in {self.path} are damaged: they are"
                " evaluated again",
                file=sys.stderr,
            )
            self._remove()  # the sound ones are written anew
        kept = {name: values[sound] for name, values in stored.items()}
        self._memory, self._count = kept, len(kept["x"])
        self._room = self._count
        self._index = {key: row for row, key in enumerate(_keys(kept["x"]))}
        self.loaded = self._count
        self._written = 0 if damaged else self._count
        self.flush()

    def _remove(self) -> None:
        """Of a link to a folder elsewhere the link alone is removed."""
        if self.path.is_symlink():
            self.path.unlink()
        else:
            shutil.rmtree(self.path)


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
        group = open_group(path)
        if group.attrs["identity"] != identity:
            raise PflowError(
                f"the evaluations in {path} are of another problem, observation or prior, or hold"
                f" no scores: {way_out}"
            )
        rows = group[RUN][:]
        stored, sound = _read(group)
        if _hash_of_run(rows) != group.attrs[RUN_HASH] or not sound[rows].all():
            raise PflowError(f"the evaluations in {path} are damaged: {way_out}")
        return {name: values[rows] for name, values in stored.items()}
    except (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise PflowError(
            f"{path} holds no evaluations of a completed run to reuse: {way_out}"
        ) from error


def _to_write(path: Path) -> zarr.Group:
    """The store, with the metadata of each array itself: the copy in the root file, for xarray, is
    that of the rows before, and is left out of what is written until `consolidate` makes it anew.
    """
    return zarr.open_group(path, mode="a", zarr_format=3, use_consolidated=False)


def _read(group: zarr.Group) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every field, and which rows are as they were written."""
    count = int(group.attrs["count"])
    stored = {name: _read_chunks(group[name], count) for name in (*FIELDS, HASH)}
    hashes = stored.pop(HASH)
    return stored, (hashes == _hashes(stored, group.attrs["identity"])).all(axis=1)


def _read_chunks(array: zarr.Array, count: int) -> np.ndarray:
    """The first rows of an array; zero where a chunk cannot be read."""
    values = np.zeros((count, *array.shape[1:]), dtype=array.dtype)
    for first in range(0, count, CHUNK_ROWS):
        rows = slice(first, min(first + CHUNK_ROWS, count))
        try:
            values[rows] = array[rows]
        except Exception:  # zarr's codecs raise many types for damaged bytes
            values[rows] = 0
    return values


def _hashes(rows: dict[str, np.ndarray], identity: str) -> np.ndarray:
    """Hash of each row over all fields and the target, (rows, HASH_BYTES)."""
    fields = [np.ascontiguousarray(rows[name]) for name in FIELDS]
    start = hashlib.blake2b(identity.encode(), digest_size=HASH_BYTES)
    hashes = np.empty((len(fields[0]), HASH_BYTES), dtype=np.uint8)
    for row, values in enumerate(zip(*fields, strict=True)):
        digest = start.copy()
        for value in values:
            digest.update(value.tobytes())
        hashes[row] = np.frombuffer(digest.digest(), dtype=np.uint8)
    return hashes


def _hash_of_run(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:32]


def _keys(x: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(x)]
