"""Every read and write of arrays in Zarr stores: pairs, observations, evaluations.

A store appears under its final name only when it is complete: it is written under a temporary name
and then renamed. The root `zarr.json` carries a hash of the content, which is what Snakemake
compares. Reading checks that all arrays and chunks exist, their shapes, and that no value is NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.dimensions import dimension_names
from pflow.storage.zarr_files import (
    codecs,
    consolidate,
    content_hash,
    description,
    open_group,
    require_chunks,
    store_root,
)

__all__ = [
    "check_content",
    "open_arrays",
    "read_arrays",
    "read_pairs",
    "read_rows",
    "replacing",
    "write_arrays",
]

CHUNK_BYTES = 8 * 2**20


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    first: str | None = None,
) -> None:
    """A Zarr group of plain arrays, chunked along the first axis and sharded into few files,
    checksummed; `xarray.open_zarr` opens it.

    Arguments:
        path: the store.
        arrays: by name.
        attributes: of the group.
        first: name of the first axis of all arrays, which they share, such as "sample"; None where
            they share none.
    """
    root = store_root(path)
    with replacing(root) as temporary, zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.create_group(temporary, zarr_format=3)
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            chunks, shards = _layout(array)
            stored = group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=chunks,
                shards=shards,
                compressors=codecs(),
                dimension_names=dimension_names(name, array.ndim, first),
            )
            stored[...] = array
        shapes, hashes = (
            {n: list(a.shape) for n, a in arrays.items()},
            {n: content_hash({n: a}) for n, a in arrays.items()},
        )
        group.attrs.update({**attributes, "shapes": shapes, "hashes": hashes})
        consolidate(temporary)


def read_arrays(
    path: str | Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and attributes of a group written by `write_arrays`.

    Raises:
        PflowError: the store, an array or a chunk is missing, a shape or the content differs from
            what was written, data is damaged or NaN.
    """
    root = store_root(path)
    stored = open_arrays(root, names, optional)
    attributes = dict(open_group(root).attrs)
    arrays = {
        name: read_rows(array, root, name, 0, array.shape[0] if array.ndim else None)
        for name, array in stored.items()
    }
    for name, array in arrays.items():
        if content_hash({name: array}) != attributes.get("hashes", {}).get(name):
            raise PflowError(f"{root}/{name} was changed after it was written: {_remedy(root)}")
    return arrays, attributes


def open_arrays(
    path: str | Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, zarr.Array]:
    """Arrays of a group, not yet read; checks everything that needs no reading."""
    root = store_root(path)
    try:
        group = open_group(root)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise PflowError(f"{root} is not a Zarr group: {_remedy(root)}") from error
    promised, arrays = group.attrs.get("shapes", {}), {}
    for name in (*names, *(n for n in optional if n in group)):
        if name not in group:
            raise PflowError(f"{root} must hold the array `{name}` and does not: {_remedy(root)}")
        arrays[name] = group[name]
        if name in promised and list(arrays[name].shape) != promised[name]:
            raise PflowError(
                f"{root}/{name} has the shape {tuple(arrays[name].shape)}, but"
                f" {tuple(promised[name])} was written: {_remedy(root)}"
            )
        require_chunks(arrays[name], root / name, _remedy(root))
    return arrays


def read_rows(
    array: zarr.Array, path: str | Path, name: str, start: int, stop: int | None, check: bool = True
) -> np.ndarray:
    """Rows of one array of a store (all of it for a scalar), finite where `check` asks for it."""
    root = store_root(path)
    try:
        rows = array[...] if stop is None else array[start:stop]
    except Exception as error:  # zarr's codecs raise many types for damaged bytes
        raise PflowError(
            f"{root}/{name} is damaged ({str(error).splitlines()[0]}): {_remedy(root)}"
        ) from error
    if check and not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).sum())
        raise PflowError(
            f"{root}/{name} must be finite and has {bad} NaN or infinite values: check the operator"
            f" and the data, then {_remedy(root)}"
        )
    return np.asarray(rows)


def check_content(array: zarr.Array, path: str | Path, name: str) -> None:
    """Read an array of a store once, file by file: it is finite and what was written.

    Raises:
        PflowError: the array is damaged, has NaN, or was changed after it was written.
    """
    root = store_root(path)
    written = open_group(root).attrs.get("hashes", {}).get(name)
    digest, step = hashlib.sha256(description(name, array)), (array.shards or array.chunks)[0]
    for start in range(0, array.shape[0], step):
        rows = read_rows(array, root, name, start, min(start + step, array.shape[0]))
        digest.update(np.ascontiguousarray(rows))
    if digest.hexdigest()[:32] != written:
        raise PflowError(f"{root}/{name} was changed after it was written: {_remedy(root)}")


def _remedy(root: Path) -> str:
    return f"delete {root} and run snakemake again"


def read_pairs(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (x, y) of the shards, sample first, in the order of `paths`."""
    shards = [read_arrays(p, ("x", "y"))[0] for p in paths]
    first = shards[0]
    for path, shard in zip(paths, shards, strict=True):
        for name in ("x", "y"):
            if shard[name].shape[1:] != first[name].shape[1:]:
                raise PflowError(
                    f"{store_root(path)}/{name} has samples of the shape {shard[name].shape[1:]},"
                    f" other shards have {first[name].shape[1:]}: all shards must come from one"
                    " problem; delete the odd one and run snakemake again"
                )
        if len(shard["x"]) != len(shard["y"]):
            raise PflowError(
                f"{store_root(path)} has {len(shard['x'])} models x and {len(shard['y'])} data y:"
                " each sample needs both"
            )
    return np.concatenate([s["x"] for s in shards]), np.concatenate([s["y"] for s in shards])


def _layout(array: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(chunks, shards): chunks of a few hundred samples, shards of at most CHUNK_BYTES, so that
    files are few.
    """
    if array.ndim == 0 or array.size == 0:
        return array.shape, None
    sample_bytes = max(1, array.nbytes // len(array))
    per_chunk = max(1, min(len(array), 256, CHUNK_BYTES // sample_bytes or 1))
    per_shard = per_chunk * max(
        1, min(-(-len(array) // per_chunk), CHUNK_BYTES // (per_chunk * sample_bytes) or 1)
    )
    return (per_chunk, *array.shape[1:]), (per_shard, *array.shape[1:])
