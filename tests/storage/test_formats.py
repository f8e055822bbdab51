"""Every format gives the same numbers; what is wrong with a file is said before anything is trained
on it.
"""

from __future__ import annotations

import io
import sys
import zipfile

import numpy as np
import pytest
import xarray as xr
import zarr

from pflow.config.data import ObservationSettings, expand_observations
from pflow.errors import PflowError
from pflow.storage.formats import header, headers, read_whole, slabs, tracked_files

Y = np.arange(12.0).reshape(4, 3)
FORMATS = ("a.npz", "a.npy", "a.zarr", "xarray.zarr", "a.nc", "a.h5")


def write(path, array=Y, name="y"):
    if path.suffix == ".npz":
        np.savez(path, **{name: array})
    elif path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file[f"group/{name}"] = array
    elif path.name == "xarray.zarr":
        xr.Dataset({name: (("row", "column"), array)}).to_zarr(
            path, zarr_format=3, consolidated=False
        )
    elif path.suffix == ".zarr":
        zarr.create_group(path, zarr_format=2).create_array(name, data=array)
    else:
        xr.Dataset({name: (("row", "column"), array)}).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_numbers(tmp_path, name, monkeypatch):
    path = write(tmp_path / name)
    found, about = header(path, "y", "variable")
    assert about.shape == (4, 3) and about.kind == "f"
    np.testing.assert_array_equal(read_whole(path, found), Y)
    monkeypatch.setattr("pflow.storage.formats.SLAB_BYTES", 50)  # two rows
    pieces = list(slabs(path, found, about.shape))
    assert [start for start, _ in pieces] == [0, 2]
    np.testing.assert_array_equal(
        np.concatenate([rows for _, rows in pieces]), Y.astype(np.float32)
    )


def test_old_netcdf_and_missing_values(tmp_path):
    xr.Dataset({"y": ("row", [1.0, 2.0])}).to_netcdf(
        tmp_path / "old.nc", engine="scipy", format="NETCDF3_64BIT"
    )
    assert header(tmp_path / "old.nc", "y", "variable")[1].shape == (2,)
    with_gap = xr.Dataset(
        {"y": ("row", np.array([1, -99], dtype="i4"), {"_FillValue": np.int32(-99)})}
    )
    with_gap.to_netcdf(tmp_path / "gap.nc", engine="h5netcdf")
    np.testing.assert_array_equal(read_whole(tmp_path / "gap.nc", "y"), [1, np.nan])


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PflowError, match="needs h5py, which is not installed: pip install h5py"):
        headers(path)


def test_a_store_is_tracked_by_all_of_its_files(tmp_path):
    path = write(tmp_path / "a.zarr")
    assert len(tracked_files(path)) > 1 and all(str(path) in file for file in tracked_files(path))
    assert tracked_files(tmp_path / "a.npz") == [(tmp_path / "a.npz").as_posix()]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: p / "absent.npz", "absent.npz is not there"),
        (lambda p: write(p / "a.npz").rename(p / "a.mat"), "must be one of .npz, .npy, .zarr"),
        (
            lambda p: write(p / "a.npz", Y, "other") and _two(p / "b.npz"),
            "b.npz has no array `y`; it has u, v: set variable",
        ),
        (lambda p: write(p / "a.npz", Y + 1j), "is complex, and flows see real numbers"),
        (lambda p: write(p / "a.npz", np.array(["a"])), "must hold numbers"),
        (lambda p: _text(p / "a.npz"), "cannot be read as npz"),
        (lambda p: _text(p / "a.h5"), "cannot be read as h5"),
        (lambda p: _declared(p / "a.npz"), r"declares the shape \(1000000000000, 3\) and holds"),
        (lambda p: _declared(p / "a.npy"), r"declares the shape \(1000000000000, 3\) and holds"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, make, expected):
    with pytest.raises(PflowError, match=expected):
        header(make(tmp_path), "y", "variable")


def _two(path):
    np.savez(path, u=Y, v=Y)
    return path


def _text(path):
    path.write_text("not what its name says")
    return path


def _declared(path):
    """A header of 10^12 rows before the numbers of four."""
    stream = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)}
    np.lib.format.write_array_header_1_0(stream, about)
    content = stream.getvalue() + Y.tobytes()
    if path.suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("y.npy", content)
    return path


def test_the_only_array_of_a_file_needs_no_name(tmp_path):
    assert header(write(tmp_path / "a.npz", Y, "data"), "y", "variable")[0] == "data"
    assert list(headers(write(tmp_path / "a.npy"))) == [""]


def test_a_glob_becomes_one_observation_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("shot 1", "shot 2"):
        for folder in ("east", "west"):
            (tmp_path / folder).mkdir(exist_ok=True)
            write(tmp_path / folder / f"{name}.npz")
    found = expand_observations(
        {"one": ObservationSettings(seed=3), "all": ObservationSettings(file="*/shot*.npz")},
        "observations",
    )
    assert list(found) == [
        "one",
        "all-east-shot_1",
        "all-east-shot_2",
        "all-west-shot_1",
        "all-west-shot_2",
    ]
    assert found["all-west-shot_2"].file == "west/shot 2.npz"
    for observation, expected in (
        (ObservationSettings(file="*/none*.npz"), "matches no file"),
        (ObservationSettings(file="gone.npz"), "gone.npz is not there"),
        (
            ObservationSettings(file="east/shot 1.npz", x_true=[1.0]),
            "`observations.a.x_true` belongs to simulated observations",
        ),
    ):
        with pytest.raises(PflowError, match=expected):
            expand_observations({"a": observation}, "observations")
    write(tmp_path / "east" / "shot.1.npz"), write(tmp_path / "east" / "shot_1.npz")
    with pytest.raises(PflowError, match="two observations the same name"):
        expand_observations({"all": ObservationSettings(file="east/*.npz")}, "observations")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_missing_chunk_is_refused_and_not_read_as_zero(tmp_path, zarr_format):
    path = tmp_path / "a.zarr"
    group = zarr.create_group(path, zarr_format=zarr_format)
    group.create_array("y", data=np.ones((6, 3), dtype="f4"), chunks=(2, 3))
    read_whole(path, "y")
    next(path.glob("y/1.0" if zarr_format == 2 else "y/c/1/0")).unlink()
    for read in (read_whole, lambda *names: list(slabs(*names, (6, 3)))):
        with pytest.raises(PflowError, match="1 of the 3 chunks of `y` are missing"):
            read(path, "y")
