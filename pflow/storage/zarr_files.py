"""What all Zarr stores share: names, metadata, checksums, and a hash of the content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs

from pflow.errors import PflowError
from pflow.storage.layout import whole

__all__ = [
    "codecs",
    "consolidate",
    "content_hash",
    "description",
    "open_group",
    "require_chunks",
    "store_root",
]


def store_root(path: str | Path) -> Path:
    """Rules name a store by its root `zarr.json`; both names are accepted."""
    return whole(Path(path))


def consolidate(store: Path | zarr.storage.MemoryStore) -> None:
    """Copy all metadata into the root file, where xarray looks first; pflow reads that of each
    array.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store)


def open_group(root: Path) -> zarr.Group:
    """A store to read, with the metadata of each array itself."""
    return zarr.open_group(root, mode="r", use_consolidated=False)


def require_chunks(array: zarr.Array, path: Path, remedy: str) -> None:
    """Raise an error for missing chunks, which Zarr reads as fill values without a warning."""
    if array.nchunks_initialized < array.nchunks:
        raise PflowError(
            f"{path} has {array.nchunks_initialized} of its {array.nchunks} chunks: {remedy}"
        )


def codecs() -> tuple[Any, ...]:
    """Compression, then a checksum: damage is found when the chunk is read."""
    return (zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec())


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of arrays with their names, types and shapes; the order of the names does not count."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(description(name, array))
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def description(name: str, array: np.ndarray | zarr.Array) -> bytes:
    """What of an array counts in its hash besides its values."""
    return f"{name} {array.dtype} {array.shape}".encode()
