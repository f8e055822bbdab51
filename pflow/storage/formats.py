"""Arrays in data files of users (npz, npy, Zarr, NetCDF, HDF5): shapes without reading, rows
without reading the rest.

Planning reads headers only, so libraries are imported only when an array is read. Of NetCDF files,
missing values become NaN and packed values are unpacked, as xarray does it; other formats are read
unchanged.
"""

from __future__ import annotations

import importlib
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pflow.errors import PflowError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Header", "header", "headers", "open_array", "read_whole", "slabs", "tracked_files"]

NUMPY, ZARR, NETCDF, HDF5 = (
    (".npz", ".npy"),
    (".zarr",),
    (".nc", ".nc4", ".cdf"),
    (".h5", ".hdf5", ".hdf", ".he5"),
)
SLAB_BYTES = 64 * 2**20


class Header(NamedTuple):
    """Shape and type of an array, without reading it; `kind` is NumPy's letter (f, i, u, b, c,
    ...).
    """

    shape: tuple[int, ...]
    kind: str


def headers(path: Path) -> dict[str, Header]:
    """Every array of a file by name; the only array of a .npy file, or of a Zarr store that is an
    array, has the name "".

    Raises:
        PflowError: the file is not there, damaged, or of no known format.
    """
    if not path.exists():
        raise PflowError(
            f"{path} is not there: {path.absolute()} (paths start in the folder where you run"
            " pflow)"
        )
    read = {
        **dict.fromkeys(NUMPY, _numpy_headers),
        **dict.fromkeys(ZARR, _zarr_headers),
        **dict.fromkeys((*NETCDF, *HDF5), _hdf5_headers),
    }
    suffix = ".zarr" if path.is_dir() else path.suffix.lower()
    if suffix not in read:
        raise PflowError(
            f"{path} must be one of {', '.join((*NUMPY, *ZARR, *NETCDF, *HDF5))}: save it as one of"
            " these"
        )
    try:
        return read[suffix](path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise PflowError(
            f"{path} cannot be read as {suffix[1:]}"
            f" ({str(error).splitlines()[0] if str(error) else type(error).__name__}): is it"
            " damaged, or another format?"
        ) from error


def header(path: Path, name: str, where: str) -> tuple[str, Header]:
    """The array `name` of a file, or its only array; and the name under which the file knows it.

    Arguments:
        path: the data file.
        name: of the array.
        where: the setting that holds the name, for messages.

    Raises:
        PflowError: there is no such array, or it does not hold numbers.
    """
    arrays = headers(path)
    if name not in arrays and len(arrays) == 1:
        name = next(iter(arrays))
    if name not in arrays:
        raise PflowError(
            f"{path} has no array `{name}`; it has {', '.join(sorted(arrays)) or 'none'}: set"
            f" {where}"
        )
    kind = arrays[name].kind
    if kind == "c":
        raise PflowError(
            f"{path}: `{name}` is complex, and flows see real numbers: store real and imaginary"
            " part as two channels"
        )
    if kind not in "fiub":
        raise PflowError(
            f"{path}: `{name}` must hold numbers (its NumPy kind is {kind!r}): save it as a float"
            " array"
        )
    return name, arrays[name]


@contextmanager
def open_array(path: Path, name: str) -> Iterator[Any]:
    """The array, to be sliced along its first axis."""
    suffix = ".zarr" if path.is_dir() else path.suffix.lower()
    if suffix in NUMPY:
        import numpy

        loaded = numpy.load(path, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
        yield loaded if suffix == ".npy" else loaded[name]
    elif suffix in ZARR:
        import zarr

        array = zarr.open_group(path, mode="r")[name] if name else zarr.open(path, mode="r")
        _require_chunks(array, path)
        yield array
    elif suffix in NETCDF:
        import xarray

        engine = "scipy" if _is_old_netcdf(path) else _needs("h5netcdf", path).__name__
        group, _, variable = name.rpartition("/")
        with xarray.open_dataset(
            path, engine=engine, group=group or None, decode_times=False
        ) as dataset:
            yield dataset[variable]
    else:
        with _needs("h5py", path).File(path, "r") as file:
            yield file[name]


def slabs(path: Path, name: str, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """The array in pieces of bounded size: (first row, rows as float32)."""
    import numpy

    step = max(1, SLAB_BYTES // (8 * max(1, math.prod(shape[1:]))))
    with _readable(path), open_array(path, name) as array:
        for start in range(0, shape[0], step):
            yield start, numpy.asarray(array[start : start + step]).astype(numpy.float32)


def read_whole(path: Path, name: str) -> np.ndarray:
    """All of the array, as float32."""
    import numpy

    with _readable(path), open_array(path, name) as array:
        return numpy.asarray(array[...]).astype(numpy.float32)


def tracked_files(path: Path) -> list[str]:
    """The files that a data file consists of: itself, or everything inside a Zarr store."""
    if path.is_dir():
        return sorted(file.as_posix() for file in path.rglob("*") if file.is_file())
    return [path.as_posix()]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except PflowError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise PflowError(
            f"{path} cannot be read"
            f" ({str(error).splitlines()[0] if str(error) else type(error).__name__}): is it"
            " damaged?"
        ) from error


def _require_chunks(array: Any, path: Path) -> None:
    """Zarr reads a missing chunk as its fill value, and nothing tells it from a lost one."""
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        raise PflowError(
            f"{path}: {missing} of the {array.nchunks} chunks of `{array.basename}` are missing,"
            f" and would be read as {array.fill_value}: restore them; where they are meant to be"
            " empty, write the store with zarr.config.set({'array.write_empty_chunks': True})"
        )


def _numpy_headers(path: Path) -> dict[str, Header]:
    from numpy.lib import format as numpy_format

    def of(stream: Any, size: int) -> Header:
        version = numpy_format.read_magic(stream)
        read = (
            numpy_format.read_array_header_1_0
            if version == (1, 0)
            else numpy_format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
        if dtype.kind != "O" and size < stream.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"it declares the shape {shape} and holds {size} bytes")
        return Header(shape, dtype.kind)

    if path.suffix.lower() == ".npy":
        with path.open("rb") as stream:
            return {"": of(stream, path.stat().st_size)}
    by_name = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as content:
                by_name[member.filename.removesuffix(".npy")] = of(content, member.file_size)
    return by_name


def _zarr_headers(path: Path) -> dict[str, Header]:
    """From the metadata files, of format 2 and 3."""
    by_name = {}
    for file in sorted([*path.rglob("zarr.json"), *path.rglob(".zarray")]):
        about = json.loads(file.read_text(encoding="utf-8"))
        if file.name == ".zarray" or about.get("node_type") == "array":
            name = file.parent.relative_to(path).as_posix()
            kind = (
                about["dtype"][1]
                if file.name == ".zarray"
                else about["data_type"]
                if isinstance(about["data_type"], str)
                else "other"
            )
            by_name["" if name == "." else name] = Header(tuple(about["shape"]), _kind_of(kind))
    if not by_name:
        raise ValueError("no Zarr array in it")
    return by_name


def _kind_of(dtype: str) -> str:
    """NumPy's letter for a data type of Zarr: float32 -> f, uint8 -> u."""
    letters = {"float": "f", "uint": "u", "int": "i", "bool": "b", "complex": "c"}
    if len(dtype) == 1:
        return dtype
    return next((letter for word, letter in letters.items() if dtype.startswith(word)), "O")


def _hdf5_headers(path: Path) -> dict[str, Header]:
    if _is_old_netcdf(path):
        return _old_netcdf_headers(path)
    by_name: dict[str, Header] = {}
    h5py = _needs("h5py", path)

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "fiubc" and not node.is_scale:
            by_name[name] = Header(node.shape, node.dtype.kind)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return by_name


def _is_old_netcdf(path: Path) -> bool:
    """NetCDF before version 4, which is not HDF5."""
    with path.open("rb") as stream:
        return stream.read(3) == b"CDF"


def _old_netcdf_headers(path: Path) -> dict[str, Header]:
    from scipy.io import netcdf_file

    with netcdf_file(path, "r", mmap=False) as file:
        return {
            name: Header(tuple(v.shape), v.data.dtype.kind)
            for name, v in file.variables.items()
            if name not in file.dimensions
        }


def _needs(library: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise PflowError(
            f"{path} needs {library}, which is not installed: pip install {library}, or pflow with"
            " its extra `data`"
        ) from error
