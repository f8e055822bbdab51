"""A user's pairs (x, y): checked, split, and cut into shards.

Every job scans the whole file once, because only the whole file shows constant channels and equal
models, and then reads its own rows. The split depends on the seed and on which models are equal, on
nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pflow.config.data import PairsSettings
from pflow.errors import PflowError
from pflow.storage.formats import header, slabs

__all__ = ["cut_shard"]

SPLITS = ("train", "validation", "test")


def cut_shard(
    source: PairsSettings,
    split: str,
    shard: int,
    model_shape: Sequence[int],
    data_shape: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """x (pairs, *model) and y (pairs, *data) of one shard, float32, in random order.

    Raises:
        PflowError: shapes that are not the problem's, NaN, a constant channel, equal models, or an
            empty split.
    """
    count, *shapes = source.shapes("pairs")
    for name, stored, wanted in (("x", shapes[0], model_shape), ("y", shapes[1], data_shape)):
        if tuple(stored) != tuple(wanted):
            mismatch = (
                f"one `{getattr(source, name)}` has the shape {tuple(stored)}, and the problem's"
                f" {name} has {tuple(wanted)}"
            )
            raise PflowError(
                f"{source.file}: {mismatch}: bring the file to that shape, or correct the problem"
            )
    keys = _scan(source, count)
    rows = _rows(source, keys, split)
    if not len(rows):
        raise PflowError(
            f"{source.file}: equal models leave no pairs for the {split} split: raise"
            f" pairs.{split}, or remove copies"
        )
    rows = np.array_split(rows, source.shards)[shard]
    return _take(source, "x", rows, model_shape), _take(source, "y", rows, data_shape)


def _scan(source: PairsSettings, count: int) -> list[bytes]:
    """A key of each model, equal for equal models; raises an error for invalid numbers."""
    keys: list[bytes] = []
    for which in ("x", "y"):
        name, stored = header(source.file, getattr(source, which), f"pairs.{which}")
        shown = f"{source.file}: `{name or which}`"
        lowest, highest, bad, first_bad = None, None, 0, -1
        for start, rows in slabs(source.file, name, stored.shape):
            broken = ~np.isfinite(rows.reshape(len(rows), -1)).all(1)
            if broken.any() and first_bad < 0:
                first_bad = start + int(np.argmax(broken))
            bad += int(broken.sum())
            channels = rows.reshape(len(rows), rows.shape[1] if rows.ndim > 1 else 1, -1)
            low, high = channels.min((0, 2)), channels.max((0, 2))
            lowest = low if lowest is None else np.minimum(lowest, low)
            highest = high if highest is None else np.maximum(highest, high)
            if which == "x":
                keys += [
                    hashlib.blake2b(row.tobytes(), digest_size=16).digest()
                    for row in np.ascontiguousarray(rows)
                ]
        if bad:
            raise PflowError(
                f"{shown} has NaN or infinity in {bad} of its {count} rows, first in row"
                f" {first_bad}: remove these pairs, or fill in the missing numbers"
            )
        constant = np.flatnonzero(lowest == highest)
        if len(constant):
            listed = ", ".join(map(str, constant[:8])) + (", ..." if len(constant) > 8 else "")
            raise PflowError(
                f"{shown} is constant in channel {listed} (second axis) over all pairs: it teaches"
                " nothing and has no density, so leave it out of the file"
            )
    return keys


def _rows(source: PairsSettings, keys: list[bytes], split: str) -> np.ndarray:
    """The rows of a split, in random order; equal models are never in two splits."""
    groups: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    if len(groups) < len(keys) and source.duplicates == "refuse":
        pair = next(rows for rows in groups.values() if len(rows) > 1)
        raise PflowError(
            f"{source.file}: {len(keys) - len(groups)} of the {len(keys)} models `{source.x}` are"
            f" copies of another (rows {pair[0]} and {pair[1]} are equal), so training pairs would"
            " give away answers of the test: remove the copies, or set pairs.duplicates: together,"
            " which keeps equal ones in one part of the split"
        )
    order = np.random.default_rng(source.seed).permutation(len(groups))
    members = list(groups.values())
    ends = np.cumsum([len(members[g]) for g in order])
    fractions = np.cumsum([getattr(source, name) for name in SPLITS])
    limits = [
        0,
        *(int(np.searchsorted(ends, len(keys) * f + 1e-6, side="right")) for f in fractions),
    ]
    place = SPLITS.index(split)
    chosen = order[limits[place] : limits[place + 1]]
    return np.array([row for g in chosen for row in members[g]], dtype=np.int64)


def _take(source: PairsSettings, which: str, rows: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """These rows of an array, in their order, read piece by piece."""
    name, stored = header(source.file, getattr(source, which), f"pairs.{which}")
    taken = np.empty((len(rows), *shape), dtype=np.float32)
    for start, slab in slabs(source.file, name, stored.shape):
        here = np.flatnonzero((rows >= start) & (rows < start + len(slab)))
        taken[here] = slab[rows[here] - start].reshape(len(here), *shape)
    return taken
