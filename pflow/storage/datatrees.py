"""Every read and write of posteriors in ArviZ's schema: a Zarr store with a group for each of
posterior, sample_stats and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.zarr_files import (
    codecs,
    consolidate,
    content_hash,
    open_group,
    require_chunks,
    store_root,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["read_datatree", "write_datatree"]

# Bytes of a tree that Zarr writes in memory first: each of its many small files costs it several
# changes of thread, so this takes half the time. The files are the same.
IN_MEMORY = 2**25


def write_datatree(
    path: str | Path, groups: Mapping[str, "xr.Dataset"], attributes: Mapping[str, Any]
) -> None:
    """A DataTree of named groups (posterior, sample_stats, ...) with root attributes and a content
    hash.
    """
    import xarray as xr

    root = store_root(path)
    tree = xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in groups.items()})
    tree.attrs = {**attributes, "content_hash": _hash_of_groups(groups)}
    encoding = {
        f"/{g}": {v: {"compressors": codecs()} for v in d.data_vars if np.asarray(d[v]).size}
        for g, d in groups.items()
    }
    with replacing(root) as temporary, zarr.config.set({"array.write_empty_chunks": True}):
        if tree.nbytes > IN_MEMORY:
            tree.to_zarr(temporary, zarr_format=3, consolidated=False, encoding=encoding)
            consolidate(temporary)
            return
        files: dict[str, Any] = {}
        store = zarr.storage.MemoryStore(files)
        tree.to_zarr(store, zarr_format=3, consolidated=False, encoding=encoding)
        consolidate(store)
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content.to_bytes())


def read_datatree(path: str | Path) -> "xr.DataTree":
    """The DataTree at `path`, loaded into memory."""
    import xarray as xr

    root = store_root(path)
    remedy = f"delete {root} and run snakemake again"
    try:
        for name, member in open_group(root).members(max_depth=None):
            if isinstance(member, zarr.Array):
                require_chunks(member, root / name, remedy)
        with xr.open_datatree(root, engine="zarr", consolidated=False) as tree:
            tree.load()
    except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise PflowError(
            f"{root} cannot be read as a posterior store ({str(error).splitlines()[0]}): {remedy}"
        ) from error
    if tree.attrs.get("content_hash") != _hash_of_groups(tree.children):
        raise PflowError(f"{root} was changed after it was written: {remedy}")
    return tree


def _hash_of_groups(groups: Mapping[str, Any]) -> str:
    return content_hash(
        {
            f"{group}/{name}": np.asarray(dataset[name])
            for group, dataset in groups.items()
            for name in dataset.data_vars
        }
    )
