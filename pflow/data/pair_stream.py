"""Pairs (x, y) from any number of shards, in shuffled batches, with a bounded part of them in
memory.

A block is a run of samples that lies in one file. An epoch takes the blocks in random order, in
windows that fit half of the memory, and shuffles the samples of a window; the other half holds the
next window, read in the background. Where all pairs fit, there is one window, read once. The order
depends on a seed alone, so an interrupted epoch continues exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from pflow.errors import PflowError
from pflow.storage.store import check_content, open_arrays, read_rows

__all__ = ["PairStream", "TensorPairs"]

Pair = tuple[Tensor, Tensor]


class TensorPairs:
    """Pairs that are in memory already.

    Arguments:
        x: models, (pairs, *model).
        y: data, (pairs, *data).
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, seed: int, batch: int, first: int = 0) -> Iterator[Pair]:
        """Shuffled batches of one epoch, from batch number `first`; the last one is smaller where
        `batch` does not divide the pairs.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        for chosen in order[first * batch :].split(batch):
            chosen = chosen.to(self.x.device)
            yield self.x[chosen], self.y[chosen]

    def in_order(self, batch: int) -> Iterator[Pair]:
        """All pairs as they lie, in batches."""
        yield from zip(self.x.split(batch), self.y.split(batch), strict=True)


@dataclass(frozen=True)
class Block:
    """Rows `start` to `stop` of one shard."""

    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class PairStream:
    """The pairs of many shards.

    Arguments:
        paths: shards, each a store with arrays x and y, sample first; where it also holds
            `summary`, flows are conditioned on that instead of y.
        memory_mb: largest part of the pairs held at a time.
        device: where batches go.

    Raises:
        PflowError: a shard is missing, damaged, or of another problem than the first one.
    """

    def __init__(
        self, paths: list[Path], memory_mb: int, device: torch.device = torch.device("cpu")
    ) -> None:
        self.paths, self.device = paths, device
        self.arrays = [
            _seen_by_flows(open_arrays(path, ("x", "y"), optional=("summary",))) for path in paths
        ]
        self._require_alike()
        for path, arrays in zip(paths, self.arrays, strict=True):
            for array in arrays.values():
                check_content(array, path, array.basename)
        self.row_bytes = sum(
            array.dtype.itemsize * int(np.prod(array.shape[1:]))
            for array in self.arrays[0].values()
        )
        self.rows_in_memory = max(2, memory_mb * 2**20 // self.row_bytes)
        self.blocks = list(self._cut())
        self.resident = (
            TensorPairs(*self._read(self.blocks)) if len(self) <= self.rows_in_memory else None
        )

    def __len__(self) -> int:
        return sum(arrays["x"].shape[0] for arrays in self.arrays)

    def first(self, count: int) -> Pair:
        """The first pairs, as they lie."""
        return next(self.in_order(min(count, len(self))))

    def batches(self, seed: int, batch: int, first: int = 0) -> Iterator[Pair]:
        """Shuffled batches of one epoch, from batch number `first`."""
        if self.resident is not None:
            yield from self.resident.batches(seed, batch, first)
            return
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.blocks), generator=generator).tolist()
        windows = list(self._windows([self.blocks[i] for i in order]))
        orders = [torch.randperm(sum(map(len, window)), generator=generator) for window in windows]
        skip = first * batch
        while windows and skip >= len(
            orders[0]
        ):  # whole windows that the interrupted epoch has completed
            skip -= len(orders.pop(0))
            windows.pop(0)
        if windows:
            orders[0] = orders[0][skip:]
        rest: Pair | None = None
        for (x, y), chosen in zip(self._read_ahead(windows), orders, strict=True):
            chosen = chosen.to(x.device)
            if rest is not None:  # complete the incomplete batch of the previous window
                missing = batch - len(rest[0])
                first_rows, chosen = chosen[:missing], chosen[missing:]
                rest = torch.cat([rest[0], x[first_rows]]), torch.cat([rest[1], y[first_rows]])
                if len(rest[0]) < batch:
                    continue
                yield rest
            whole = len(chosen) // batch * batch
            yield from ((x[rows], y[rows]) for rows in chosen[:whole].split(batch) if len(rows))
            last_rows = chosen[whole:]
            rest = (x[last_rows], y[last_rows]) if len(last_rows) else None
        if rest is not None:
            yield rest

    def in_order(self, batch: int) -> Iterator[Pair]:
        """All pairs as they lie, in batches that may be cut where a window ends."""
        if self.resident is not None:
            yield from self.resident.in_order(batch)
            return
        for x, y in self._read_ahead(list(self._windows(self.blocks))):
            yield from zip(x.split(batch), y.split(batch), strict=True)

    def _require_alike(self) -> None:
        for path, arrays in zip(self.paths, self.arrays, strict=True):
            for name, array in arrays.items():
                if array.shape[1:] != self.arrays[0][name].shape[1:]:
                    raise PflowError(
                        f"{path}: {name} has samples of the shape {array.shape[1:]}, other shards"
                        f" have {self.arrays[0][name].shape[1:]}: all shards must come from one"
                        " problem; delete the odd one and run snakemake again"
                    )
            if arrays["x"].shape[0] != arrays["y"].shape[0]:
                raise PflowError(
                    f"{path} has {arrays['x'].shape[0]} models x and {arrays['y'].shape[0]} data y:"
                    " each sample needs both"
                )

    def _cut(self) -> Iterator[Block]:
        """Blocks of a file, or of some chunks of it where memory holds few files: 16 blocks or more
        make a well mixed window.
        """
        for shard, arrays in enumerate(self.arrays):
            x, total = arrays["x"], arrays["x"].shape[0]
            file, chunk = (x.shards or x.chunks)[0], x.chunks[0]
            step = max(
                1, min(file, max(chunk, self.rows_in_memory // 32), self.rows_in_memory // 4)
            )
            yield from (
                Block(shard, start, min(start + step, total)) for start in range(0, total, step)
            )

    def _windows(self, blocks: list[Block]) -> Iterator[list[Block]]:
        window: list[Block] = []
        for block in blocks:
            if window and sum(map(len, window)) + len(block) > self.rows_in_memory // 2:
                yield window
                window = []
            window.append(block)
        if window:
            yield window

    def _read_ahead(self, windows: list[list[Block]]) -> Iterator[Pair]:
        """Each window in turn, the next one being read meanwhile."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pairs") as background:
            coming = background.submit(self._read, windows[0]) if windows else None
            for next_window in [*windows[1:], None]:
                if coming is None:
                    return
                here, coming = (
                    coming.result(),
                    background.submit(self._read, next_window) if next_window else None,
                )
                yield here

    def _read(self, blocks: list[Block]) -> Pair:
        parts: dict[str, list[np.ndarray]] = {"x": [], "y": []}
        for block in blocks:
            for name, part in parts.items():
                array = self.arrays[block.shard][name]
                part.append(
                    read_rows(
                        array,
                        self.paths[block.shard],
                        array.basename,
                        block.start,
                        block.stop,
                        check=False,
                    )
                )
        x, y = (torch.from_numpy(np.concatenate(part)).to(self.device) for part in parts.values())
        return x, y


def _seen_by_flows(arrays: dict[str, zarr.Array]) -> dict[str, zarr.Array]:
    return {"x": arrays["x"], "y": arrays.get("summary", arrays["y"])}
