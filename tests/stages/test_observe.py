"""Measured data become an observation without a truth; a wrong shape and NaN are said clearly."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pflow.config.data import ObservationSettings
from pflow.config.jobs import ObserveJobSettings
from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.stages.observe import observe
from pflow.storage.store import read_arrays


def observed(tmp_path, array, **settings):
    np.save(tmp_path / "y.npy", array)
    wanted = ObservationSettings(file=str(tmp_path / "y.npy"), **settings)
    observe(
        ObserveJobSettings(problem_settings("rosenbrock"), wanted), {}, out=tmp_path / "y1.zarr"
    )
    return read_arrays(tmp_path / "y1.zarr", ("y",), optional=("x_true",))[0]


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_measured_data_are_taken_as_they_are(tmp_path, shape):
    arrays = observed(tmp_path, np.array([1.5, 2.5]).reshape(shape))
    assert set(arrays) == {"y"} and arrays["y"].dtype == np.float32
    np.testing.assert_array_equal(arrays["y"], [1.5, 2.5])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(3), r"has the shape \(3,\), and one observation has \(2,\)"),
        (np.zeros((5, 2)), "several observations need a file each"),
        (
            np.array([1.0, np.nan]),
            r"must be finite and has 1 NaN or infinite values, the first at \[1\]",
        ),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, array, expected):
    with pytest.raises(PflowError, match=expected):
        observed(tmp_path, array)
    assert not (tmp_path / "y1.zarr").exists()


def test_the_shape_is_looked_at_before_anything_is_read(tmp_path):
    """4 GB of zeros are read from this file of 1 kB, which holds none of its 10^9 rows."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("y", (10**9, 2), "f4", chunks=(10**6, 2))
    settings = ObserveJobSettings(
        problem_settings("rosenbrock"), ObservationSettings(file=str(tmp_path / "y.h5"))
    )
    began = time.process_time()
    with pytest.raises(PflowError, match=r"has the shape \(1000000000, 2\), and one"):
        observe(settings, {}, out=tmp_path / "y1.zarr")
    assert time.process_time() - began < 1


def test_a_true_model_of_another_size(tmp_path):
    wanted = ObserveJobSettings(problem_settings("rosenbrock"), ObservationSettings(x_true=[1.0]))
    with pytest.raises(PflowError, match="`x_true` must have 2 numbers"):
        observe(wanted, {}, out=tmp_path / "y1.zarr")
