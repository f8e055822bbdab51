"""Stores appear whole or not at all, and damage is found when it is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pflow.errors import PflowError
from pflow.storage import datatrees, store
from pflow.storage.arviz_schema import draws_dataset


@pytest.fixture
def pairs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.normal(size=(3000, 2)).astype("f4"),
        "y": generator.normal(size=(3000, 3)).astype("f4"),
    }


def test_arrays_come_back_bit_for_bit(tmp_path, pairs):
    store.write_arrays(tmp_path / "a.zarr" / "zarr.json", pairs, {"seed": 3})
    arrays, attributes = store.read_arrays(tmp_path / "a.zarr", ("x", "y"))
    assert attributes["seed"] == 3
    for name in pairs:
        np.testing.assert_array_equal(arrays[name], pairs[name])
        assert arrays[name].dtype == pairs[name].dtype


def test_zeros_are_data_and_not_missing_chunks(tmp_path):
    store.write_arrays(tmp_path / "a.zarr", {"x": np.zeros((1000, 2), "f4")}, {})
    assert not store.read_arrays(tmp_path / "a.zarr", ("x",))[0]["x"].any()


def test_root_file_changes_exactly_with_the_content(tmp_path, pairs):
    def root(arrays):
        store.write_arrays(tmp_path / "a.zarr", arrays, {})
        return (tmp_path / "a.zarr/zarr.json").read_bytes()

    first = root(pairs)
    assert root(pairs) == first
    touched = {**pairs, "x": pairs["x"].copy()}
    touched["x"][17, 1] += 1e-3
    assert root(touched) != first


def test_a_large_set_is_few_files(tmp_path):
    store.write_arrays(tmp_path / "a.zarr", {"x": np.ones((2000, 64, 64), "f4")}, {})
    assert sum(path.is_file() for path in (tmp_path / "a.zarr").rglob("*")) < 40


def chunk(path: Path) -> Path:
    return sorted(p for p in (path / "x" / "c").rglob("*") if p.is_file())[-1]


def test_missing_chunk_is_named(tmp_path, pairs):
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    chunk(tmp_path / "a.zarr").unlink()
    with pytest.raises(PflowError, match=r"a\.zarr/x has \d+ of its \d+ chunks: delete"):
        store.read_arrays(tmp_path / "a.zarr", ("x", "y"))


def test_flipped_bit_is_found(tmp_path, pairs):
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    damaged = chunk(tmp_path / "a.zarr")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(PflowError, match=r"a\.zarr/x is damaged"):
        store.read_arrays(tmp_path / "a.zarr", ("x", "y"))


def test_wrong_shape_is_named(tmp_path, pairs):
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    metadata = tmp_path / "a.zarr/x/zarr.json"
    metadata.write_text(metadata.read_text().replace("3000", "2000"))
    with pytest.raises(PflowError, match=r"shape \(2000, 2\), but \(3000, 2\) was written"):
        store.read_arrays(tmp_path / "a.zarr", ("x",))


def test_nan_in_pairs_is_counted_and_named(tmp_path, pairs):
    pairs["y"][5, 1] = np.nan
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    with pytest.raises(PflowError, match=r"a\.zarr/y must be finite and has 1 NaN"):
        store.read_pairs([tmp_path / "a.zarr"])


@pytest.mark.parametrize("damage", ["absent", "not a store", "array absent", "[]", "7", "\0"])
def test_what_is_no_store_is_named(tmp_path, pairs, damage):
    path = tmp_path / "a.zarr"
    if damage == "not a store":
        path.mkdir()
    if damage == "array absent":
        store.write_arrays(path, {"y": pairs["y"]}, {})
    if len(damage) < 3:
        path.mkdir()
        (path / "zarr.json").write_text(damage)
    for read in (lambda: store.read_arrays(path, ("x",)), lambda: datatrees.read_datatree(path)):
        with pytest.raises(PflowError, match=r"a\.zarr.*delete"):
            read()


def test_shards_of_different_problems_are_refused(tmp_path, pairs):
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    store.write_arrays(tmp_path / "b.zarr", {"x": pairs["y"], "y": pairs["y"]}, {})
    with pytest.raises(
        PflowError, match=r"b\.zarr/x has samples of the shape \(3,\), other shards have \(2,\)"
    ):
        store.read_pairs([tmp_path / "a.zarr", tmp_path / "b.zarr"])


def test_failure_while_writing_leaves_the_old_store_and_no_litter(tmp_path, pairs):
    path = tmp_path / "a.zarr"
    store.write_arrays(path, pairs, {})
    before = (path / "zarr.json").read_bytes()
    with pytest.raises(RuntimeError), store.replacing(path) as temporary:  # noqa: PT012
        shutil.copytree(path, temporary)
        raise RuntimeError("killed")
    assert (path / "zarr.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_arrays_open_in_plain_xarray(tmp_path):
    """Warnings are errors here: no argument is needed."""
    arrays = {"x": np.ones((6, 1, 4, 5), "f4"), "y": np.arange(18.0).reshape(6, 3)}
    store.write_arrays(tmp_path / "pairs.zarr", arrays, {}, first="sample")
    store.write_arrays(tmp_path / "one.zarr", {"y": np.ones(3), "x_true": np.ones(2)}, {})
    pairs = xr.open_zarr(tmp_path / "pairs.zarr", chunks=None).load()
    assert pairs["x"].dims == ("sample", "x_channel", "x_row", "x_column")
    np.testing.assert_array_equal(pairs["y"].isel(sample=2), [6, 7, 8])
    one = xr.open_zarr(tmp_path / "one.zarr", chunks=None)
    assert (one["y"].dims, one["x_true"].dims) == (("y_dim",), ("x_dim",))
    for name in ("pairs", "one"):
        xr.testing.assert_equal(
            xr.open_zarr(tmp_path / f"{name}.zarr", chunks=None, consolidated=False),
            xr.open_zarr(tmp_path / f"{name}.zarr", chunks=None),
        )


def test_arrays_of_earlier_versions_are_read(tmp_path, pairs):
    """Without names of axes and without a copy of the metadata in the root file."""
    store.write_arrays(tmp_path / "a.zarr", pairs, {})
    for path in (tmp_path / "a.zarr").rglob("zarr.json"):
        content = json.loads(path.read_text())
        content.pop("consolidated_metadata", None), content.pop("dimension_names", None)
        path.write_text(json.dumps(content))
    np.testing.assert_array_equal(store.read_pairs([tmp_path / "a.zarr"])[1], pairs["y"])


def test_datatree_opens_in_plain_xarray(tmp_path):
    x = np.arange(20.0).reshape(10, 2)
    groups = {
        "posterior": draws_dataset({"x": x}, ("x1", "x2")),
        "sample_stats": draws_dataset({"lp": x[:, 0]}),
    }
    datatrees.write_datatree(tmp_path / "p.zarr" / "zarr.json", groups, {"method": "scratch"})
    with xr.open_datatree(tmp_path / "p.zarr", engine="zarr") as tree:
        assert tree.attrs["method"] == "scratch"
        assert tree["posterior"]["x"].dims == ("chain", "draw", "x_dim")
        assert list(tree["posterior"]["x_dim"].values) == ["x1", "x2"]
        np.testing.assert_array_equal(tree["posterior"]["x"].sel(x_dim="x2").values[0], x[:, 1])


def test_datatree_with_a_missing_chunk_is_refused(tmp_path):
    datatrees.write_datatree(
        tmp_path / "p.zarr", {"posterior": draws_dataset({"x": np.ones((10, 2))})}, {}
    )
    next(p for p in (tmp_path / "p.zarr/posterior/x/c").rglob("*") if p.is_file()).unlink()
    with pytest.raises(PflowError, match="chunks: delete"):
        datatrees.read_datatree(tmp_path / "p.zarr")


def test_a_tree_has_the_same_files_however_it_is_written(tmp_path, monkeypatch):
    """Small ones are written in memory first."""
    draws = np.random.default_rng(0).normal(size=(3000, 4)).astype("f4")
    groups = {
        "posterior": draws_dataset({"x": draws}),
        "sample_stats": draws_dataset({"lp": draws[:, 0], "log_q": np.zeros(3000, "f4")}),
    }
    for name, limit in (("memory", 2**25), ("disk", 0)):
        monkeypatch.setattr(datatrees, "IN_MEMORY", limit)
        datatrees.write_datatree(tmp_path / name / "a.zarr", groups, {"seed": 3})
    written = [
        {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        for folder in (tmp_path / "memory", tmp_path / "disk")
    ]
    assert written[0] == written[1] and len(written[0]) > 8
