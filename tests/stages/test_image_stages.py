"""References and metrics of images: baselines from the spectrum, the schema of their stores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.config.jobs import ReferenceJobSettings
from pflow.config.problems import problem_settings
from pflow.config.trust import ReferenceSettings
from pflow.diagnostics.images import signal_to_noise_db
from pflow.errors import PflowError
from pflow.problems import build_problem
from pflow.problems.stationary import estimate_spectrum
from pflow.stages.evaluate import _image
from pflow.stages.reference import reference
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import read_datatree, write_datatree
from pflow.storage.store import write_arrays
from tests.support.record import RECORD


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An observation of a training image, and its Gaussian reference."""
    folder = tmp_path_factory.mktemp("reference")
    problem = build_problem("seismic", height=16, width=16)
    x, y = problem.simulate(400, torch.Generator().manual_seed(0))
    write_arrays(folder / "y.zarr", {"y": y[0].numpy(), "x_true": x[0].numpy()}, {})
    write_arrays(folder / "spectrum.zarr", {"spectrum": estimate_spectrum(x).numpy()}, {})
    settings = ReferenceJobSettings(
        problem_settings("seismic", height=16, width=16),
        ReferenceSettings(kind="gaussian", draws=200),
        "seismic",
        "deep",
    )
    reference(
        settings,
        RECORD,
        observation=folder / "y.zarr",
        prior=folder / "spectrum.zarr",
        out=folder / "reference.zarr",
        points=folder / "points.zarr",
    )
    return folder, settings, x[0].numpy(), y[0].numpy()


def test_a_gaussian_reference_holds_draws_and_baselines(made):
    folder, _, truth, y = made
    reference_tree = read_datatree(folder / "reference.zarr")
    assert reference_tree.attrs["kind"] == "gaussian" and np.isfinite(
        reference_tree.attrs["log_evidence"]
    )
    assert reference_tree["posterior"]["x"].dims == (
        "chain",
        "draw",
        "x_channel",
        "x_row",
        "x_column",
    )
    estimates = {
        name: reference_tree["estimates"][name].values for name in ("x_gaussian", "x_wiener")
    }
    snr = {name: signal_to_noise_db(values, truth) for name, values in estimates.items()}
    assert snr["x_gaussian"] > snr["x_wiener"] + 2 > signal_to_noise_db(y, truth) + 2
    draws = reference_tree["posterior"]["x"].values[0]
    z = (
        (draws.mean(0) - estimates["x_gaussian"])
        / reference_tree["estimates"]["x_gaussian_std"].values
        * np.sqrt(len(draws))
    )
    assert 0.8 < (z**2).mean() < 1.2


def test_metrics_stand_beside_those_baselines(made, tmp_path):
    folder, _, truth, y = made
    reference_tree = read_datatree(folder / "reference.zarr")
    groups = {
        "posterior": draws_dataset({"x": reference_tree["posterior"]["x"].values[0]}),
        "observed_data": point_dataset({"y": y}),
        "constant_data": point_dataset({"x_true": truth}),
    }
    write_datatree(tmp_path / "posterior.zarr", groups, {})
    metrics = _image(read_datatree(tmp_path / "posterior.zarr"), reference_tree)
    assert metrics["snr_mean_db"] == pytest.approx(metrics["snr_gaussian_db"], abs=0.5)
    assert metrics["snr_wiener_db"] < metrics["snr_gaussian_db"] and metrics[
        "snr_data_db"
    ] == pytest.approx(signal_to_noise_db(y, truth))
    assert 0.75 < metrics["coverage_90"] <= 1.0
    assert "snr_gaussian_db" not in _image(read_datatree(tmp_path / "posterior.zarr"), None)


def test_a_gaussian_reference_without_its_spectrum_is_refused(made, tmp_path):
    folder, settings, *_ = made
    with pytest.raises(PflowError, match="--prior"):
        reference(
            settings,
            RECORD,
            observation=folder / "y.zarr",
            out=tmp_path / "reference.zarr",
            points=tmp_path / "points.zarr",
        )
