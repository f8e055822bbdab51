"""Replacing files and folders: whole or not at all, also behind links and without permission."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from pflow.errors import PassingError
from pflow.execution.job import job
from pflow.storage.atomic import replacing
from pflow.storage.evaluations import EvaluationStore
from pflow.storage.store import read_arrays, write_arrays


@pytest.fixture
def linked(tmp_path):
    """A store on another disk, and a link to it among the results."""
    (tmp_path / "results").mkdir()
    elsewhere = tmp_path / "elsewhere" / "moved.zarr"
    write_arrays(elsewhere, {"y": np.zeros(3)}, {})
    link = tmp_path / "results" / "y1.zarr"
    link.symlink_to(elsewhere)
    return link, elsewhere


def test_a_linked_store_is_replaced_where_it_lies(linked):
    link, elsewhere = linked
    (link / "zarr.json").unlink()  # as Snakemake does before it runs the job
    litter = elsewhere.with_name(".moved.zarr.abc.partial")
    litter.mkdir()
    with job(link / "zarr.json", None, "a"):
        write_arrays(link / "zarr.json", {"y": np.ones(3)}, {})
    assert link.is_symlink() and not litter.exists()
    np.testing.assert_array_equal(read_arrays(elsewhere, ("y",))[0]["y"], np.ones(3))


def test_evaluations_of_another_target_behind_a_link_are_not_deleted(linked):
    link, elsewhere = linked
    assert len(EvaluationStore(link, "a target")) == 0
    assert not link.exists() and elsewhere.is_dir()


def test_only_a_full_disk_asks_for_space(tmp_path):
    (tmp_path / "b.json").write_text("before")
    with (
        pytest.raises(PassingError, match="Is a directory.*make the folder writable"),
        replacing(tmp_path / "b.json"),
    ):
        os.open(tmp_path, os.O_WRONLY)
    with (
        pytest.raises(PassingError, match="No space left on device.*free some space"),
        replacing(tmp_path / "b.json"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "b.json").read_text() == "before"
