"""Reading 10 000 pairs at 64x64: one shuffled epoch of the stream against a plain sequential read
of the same bytes.

python benchmarks/reading.py [FOLDER]        (328 MB are written under FOLDER, default a temporary
                                             one)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr

from pflow.data.pair_stream import PairStream
from pflow.storage.store import write_arrays

PAIRS, SIDE, SHARDS, REPEATS = 10_000, 64, 4, 3


def write(folder: Path) -> list[Path]:
    """Smooth random images, which compress about as images of physics do."""
    generator = np.random.default_rng(0)
    paths = [folder / f"shard-{k}.zarr" for k in range(SHARDS)]
    for path in paths:
        x = generator.normal(size=(PAIRS // SHARDS, SIDE, SIDE)).astype("f4").cumsum(1).cumsum(2)
        write_arrays(path, {"x": x, "y": x + generator.normal(size=x.shape).astype("f4")}, {})
    return paths


def sequential(paths: list[Path]) -> int:
    """Every array of every shard, a file at a time, in order."""
    total = 0
    for path in paths:
        for name in ("x", "y"):
            array = zarr.open_array(path / name, mode="r")
            step = array.shards[0]
            total += sum(
                array[start : start + step].nbytes for start in range(0, array.shape[0], step)
            )
    return total


def shuffled(stream: PairStream, seed: int) -> int:
    return sum(x.nbytes + y.nbytes for x, y in stream.batches(seed, batch=64))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        paths = write(folder)
        files = [p for path in paths for p in path.rglob("*") if p.is_file()]
        on_disk = sum(path.stat().st_size for path in files)
        stream = PairStream(paths, memory_mb=100)
        rows = {"sequential": [], "shuffled": []}
        sequential(paths)  # both find the files in the page cache
        for seed in range(REPEATS):
            for name, read in (
                ("sequential", lambda: sequential(paths)),
                ("shuffled", lambda seed=seed: shuffled(stream, seed)),
            ):
                began = time.perf_counter()
                total = read()
                rows[name].append(total / 2**20 / (time.perf_counter() - began))
    best = {name: max(rates) for name, rates in rows.items()}
    print(
        f"{PAIRS} pairs of two {SIDE}x{SIDE} images: {total / 2**20:.0f} MB, {on_disk / 2**20:.0f}"
        f" MB on disk in {len(files)} files"
    )
    print("| read | MB/s (best of 3) | of sequential |\n|---|---|---|")
    for name, rate in best.items():
        print(
            f"| {name}{', 100 MB in memory' if name == 'shuffled' else ''} | {rate:.0f} |"
            f" {rate / best['sequential']:.0%} |"
        )


if __name__ == "__main__":
    main()
