"""Pairs stream from shards: each once an epoch, well mixed, a bounded part in memory, and exactly
resumable.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from pflow.config.jobs import SimulateJobSettings
from pflow.config.problems import problem_settings
from pflow.data.pair_stream import PairStream, TensorPairs
from pflow.errors import PflowError
from pflow.stages.simulate import simulate
from pflow.storage import store

ROWS, WIDTH = 40_000, 32  # 10 MB in all: 5 MB x, 5 MB y


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    """Four shards whose x tells which pair it is."""
    folder = tmp_path_factory.mktemp("pairs")
    numbers = np.arange(ROWS, dtype="f4")[:, None].repeat(WIDTH, 1)
    for k, part in enumerate(np.split(numbers, 4)):
        store.write_arrays(folder / f"shard-{k}.zarr", {"x": part, "y": -part}, {})
    return [folder / f"shard-{k}.zarr" for k in range(4)]


def numbers(batches) -> list[list[int]]:
    found = []
    for x, y in batches:
        assert torch.equal(y, -x)
        found.append(x[:, 0].long().tolist())
    return found


@pytest.mark.parametrize("memory_mb", [1, 3, 100])
def test_an_epoch_has_each_pair_once_in_whole_batches(shards, memory_mb):
    batches = numbers(PairStream(shards, memory_mb).batches(seed=1, batch=300))
    assert [len(b) for b in batches] == [300] * (ROWS // 300) + [ROWS % 300]
    assert sorted(n for b in batches for n in b) == list(range(ROWS))


@pytest.mark.parametrize("memory_mb", [1, 100])
def test_an_epoch_continues_exactly(shards, memory_mb):
    stream = PairStream(shards, memory_mb)
    whole = numbers(stream.batches(seed=5, batch=700))
    for first in (0, 1, 7, 29, len(whole) - 1):
        assert (
            numbers(PairStream(shards, memory_mb).batches(seed=5, batch=700, first=first))
            == whole[first:]
        )
    assert numbers(stream.batches(seed=5, batch=700)) == whole
    assert numbers(stream.batches(seed=6, batch=700)) != whole


def test_no_more_is_held_than_the_setting_allows(shards, monkeypatch):
    largest, limit = [], 2**20
    read = PairStream._read

    def counted_read(self, blocks):
        x, y = read(self, blocks)
        largest.append(x.nbytes + y.nbytes)
        return x, y

    monkeypatch.setattr(PairStream, "_read", counted_read)
    stream = PairStream(shards, memory_mb=1)
    numbers(stream.batches(seed=0, batch=256))
    assert stream.resident is None and max(largest) <= limit / 2  # this window and the next one
    assert len(largest) >= 20


def test_the_next_window_is_read_in_the_background(shards, monkeypatch):
    threads = []
    read = PairStream._read
    monkeypatch.setattr(
        PairStream,
        "_read",
        lambda self, blocks: threads.append(threading.current_thread().name) or read(self, blocks),
    )
    batches = PairStream(shards, memory_mb=1).batches(seed=0, batch=16)
    next(batches)
    for _ in range(200):
        if len(threads) > 1:
            break
        threading.Event().wait(0.05)
    assert len(threads) > 1 and all(name.startswith("pairs") for name in threads)
    batches.close()


def test_batches_are_well_mixed(shards):
    """A batch draws on many places of the set although a tenth of it is in memory: neighbours are
    rare, places spread.
    """
    batches = numbers(PairStream(shards, memory_mb=1).batches(seed=3, batch=256))
    neighbours = np.mean([np.mean(np.abs(np.diff(b)) == 1) for b in batches])
    assert neighbours < 0.01
    spread = np.std([np.mean(b) for b in batches]) / (ROWS / np.sqrt(12))
    assert spread < 0.5  # 1/16 for a perfect shuffle, 1 where a batch comes from one place
    first, second = (
        np.array(numbers(PairStream(shards, 1).batches(seed, 256))[0]) for seed in (3, 4)
    )
    assert len(np.intersect1d(first, second)) < 30


def test_a_set_in_memory_is_read_once(shards, monkeypatch):
    stream = PairStream(shards, memory_mb=100)
    monkeypatch.setattr(PairStream, "_read", lambda *_: pytest.fail("read again"))
    assert len(numbers(stream.batches(seed=1, batch=4096))) == 10
    assert sum(len(x) for x, _ in stream.in_order(4096)) == ROWS


def test_in_order_is_in_order(shards):
    for memory_mb in (1, 100):
        assert [n for b in numbers(PairStream(shards, memory_mb).in_order(999)) for n in b] == list(
            range(ROWS)
        )
    assert numbers([PairStream(shards, 1).first(5)]) == [[0, 1, 2, 3, 4]]


def test_damage_is_found_while_streaming(shards, tmp_path):
    import shutil

    copied = shutil.copytree(shards[0], tmp_path / "shard-0.zarr")
    chunk = next(p for p in sorted((copied / "x/c").rglob("*")) if p.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(PflowError, match=r"shard-0\.zarr/x is damaged"):
        numbers(PairStream([copied, *shards[1:]], memory_mb=1).batches(seed=0, batch=256))


def test_tensors_in_memory_are_batched_alike():
    x = torch.arange(10.0)[:, None]
    batches = numbers(TensorPairs(x, -x).batches(seed=0, batch=4))
    assert [len(b) for b in batches] == [4, 4, 2] and sorted(
        itertools.chain.from_iterable(batches)
    ) == list(range(10))
    assert numbers(TensorPairs(x, -x).batches(seed=0, batch=4, first=1)) == batches[1:]


def test_a_shard_does_not_depend_on_the_others(tmp_path):
    def make(folder: str, shard: int) -> bytes:
        settings = SimulateJobSettings(problem_settings("rosenbrock"), "train", shard, 50, 7)
        simulate(settings, {}, out=tmp_path / folder / f"shard-{shard}.zarr")
        return b"".join(
            p.read_bytes()
            for p in sorted((tmp_path / folder / f"shard-{shard}.zarr").rglob("*"))
            if p.is_file()
        )

    together = [make("together", k) for k in (0, 1, 2)]
    assert [make("backwards", k) for k in (2, 1, 0)] == together[::-1]
    assert len(set(together)) == 3


def test_ten_thousand_images_are_few_files():
    """Computed from the layout: the set itself would be 328 MB."""
    files = 0
    for pairs in (10_000,):
        image = np.broadcast_to(np.float32(0), (pairs, 64, 64))
        _, per_file = store._layout(image)
        files += (
            2 * (-(-pairs // per_file[0]) + 1) + 1
        )  # x and y: chunks in files, metadata; the root
    assert files < 200


@pytest.mark.slow
def test_the_files_of_a_large_set_are_as_computed(tmp_path):
    images = np.zeros((2500, 64, 64), "f4")
    store.write_arrays(tmp_path / "a.zarr", {"x": images}, {})
    written = sum(path.is_file() for path in (tmp_path / "a.zarr").rglob("*"))
    assert written == -(-2500 // store._layout(images)[1][0]) + 2


@pytest.mark.parametrize("memory_mb", [1, 100])
def test_a_chunk_of_another_shard_is_not_learnt_from(shards, tmp_path, memory_mb):
    copies = [tmp_path / path.name for path in shards]
    for path, copy in zip(shards, copies, strict=True):
        shutil.copytree(path, copy)
    chunk = Path("y/c/0/0")
    shutil.copy(shards[1] / chunk, copies[2] / chunk)
    with pytest.raises(PflowError, match="shard-2.zarr/y was changed after it was written"):
        PairStream(copies, memory_mb)
