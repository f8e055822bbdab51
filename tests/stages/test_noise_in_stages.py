"""Missing data, correlated noise, bounded parameters and operators without gradient through the
stages.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from xarray import DataTree

from pflow.config.data import ObservationSettings
from pflow.config.experiment import SampleSettings
from pflow.config.jobs import (
    EvaluateJobSettings,
    ObserveJobSettings,
    SampleJobSettings,
    SimulateJobSettings,
)
from pflow.config.problems import ProblemSettings, problem_settings
from pflow.config.trust import EvaluateSettings
from pflow.errors import PflowError
from pflow.figures.prediction import compare
from pflow.flows import build_flow
from pflow.operators.adapters import NumPyOperator
from pflow.problems import Gaussian
from pflow.problems.noise import CovarianceNoise, MaskedNoise
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import Unconstrained
from pflow.stages import evaluate, observe, sample, simulate
from pflow.storage.datatrees import read_datatree
from pflow.storage.store import read_arrays
from pflow.storage.text_files import read_json, write_csv, write_json
from pflow.storage.weights import write_weights
from tests.support.record import RECORD

MASK = torch.tensor([True, True, False, True])
COVARIANCE = torch.tensor(
    [[0.2, 0.1, 0.0, 0.0], [0.1, 0.2, 0.1, 0.0], [0.0, 0.1, 0.2, 0.1], [0.0, 0.0, 0.1, 0.2]],
    dtype=torch.float64,
)


class Gappy(PriorProblem):
    """The Gaussian problem, its third datum missing, the others with correlated noise."""

    def __init__(self):
        gaussian, noise = Gaussian(side=2), MaskedNoise(CovarianceNoise((4,), COVARIANCE), MASK)
        super().__init__(gaussian.prior, gaussian.low_fidelity, gaussian.high_fidelity, noise=noise)


class Bounded(PriorProblem):
    """Four numbers between 0 and 2, seen through NumPy code without a gradient."""

    def __init__(self):
        prior = Unconstrained(torch.distributions.Uniform(torch.zeros(4), 2.0))
        values = NumPyOperator(np.sqrt, (4,), (4,))
        super().__init__(prior, values, values, noise_std=0.1)


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    problem = getattr(request, "param", Gappy)
    for stage in (simulate, observe, sample, evaluate):
        monkeypatch.setattr(stage, "problem_from", lambda settings: problem())
    architecture = {
        "name": "coupling",
        "model_shape": [4],
        "data_shape": [4],
        "depth": 2,
        "hidden": 8,
    }
    torch.manual_seed(0)
    weights = build_flow(**architecture).state_dict()
    write_weights(
        tmp_path / "flow.safetensors", weights, {"architecture": json.dumps(architecture)}
    )
    facts = {
        "evaluations": 0,
        "wall_seconds": 0.0,
        "device": "cpu",
        "skipped_steps": 0,
        "stop_reason": "budget",
    }
    write_json(tmp_path / "flow.json", facts)
    write_csv(tmp_path / "history.csv", [], ("evaluations", "kl_reverse_nats"))
    return tmp_path


def sampled(folder: Path, settings: ProblemSettings, draws: int) -> DataTree:
    """The posterior store of the flow and the observation in a folder."""
    wanted = SampleJobSettings(
        settings,
        SampleSettings(draws=draws, score_draws=8, prior_draws=8),
        0,
        "cpu",
        "experiment",
        "y",
        "none",
    )
    sample.sample(
        wanted,
        RECORD,
        flow=folder / "flow.safetensors",
        observation=folder / "y.zarr",
        out=folder / "posterior.zarr",
    )
    return read_datatree(folder / "posterior.zarr")


def test_missing_data_go_through_the_pipeline_and_count_nowhere(folder):
    settings = problem_settings("gaussian", side=2)
    simulate.simulate(
        SimulateJobSettings(settings, "train", 0, 50, 0), RECORD, out=folder / "pairs.zarr"
    )
    pairs = read_arrays(folder / "pairs.zarr", ("x", "y"))[0]
    assert (pairs["y"][:, 2] == 0).all() and (pairs["y"][:, [0, 1, 3]] != 0).all()

    observe.observe(
        ObserveJobSettings(settings, ObservationSettings(seed=3)), RECORD, out=folder / "y.zarr"
    )
    y = read_arrays(folder / "y.zarr", ("y",))[0]["y"]
    assert y[2] == 0

    tree = sampled(folder, settings, draws=300)
    x = torch.from_numpy(tree["posterior"]["x"].values[0])
    residual = (torch.from_numpy(y) - Gappy().high_fidelity(x)).double()[:, MASK]
    kept = COVARIANCE[MASK][:, MASK]
    misfit = torch.einsum("bi,ij,bj->b", residual, torch.linalg.inv(kept), residual)
    np.testing.assert_allclose(tree["sample_stats"]["chi_square"].values[0], misfit / 3, rtol=1e-4)
    log_likelihood = -0.5 * misfit - 0.5 * torch.logdet(2 * math.pi * kept)
    np.testing.assert_allclose(
        tree["sample_stats"]["lp"].values[0],
        log_likelihood + Gappy().log_prior(x.double()),
        rtol=1e-4,
        atol=1e-3,
    )
    assert (tree["posterior_predictive"]["y"].values[..., 2] == 0).all()
    predicted = tree["posterior_predictive"]["y"].values[0]
    assert compare(y, predicted).kept.tolist() == MASK.tolist()  # missing data are not drawn
    assert tree.attrs["data_size"] == 3 and "physical" not in tree["posterior"]

    judged = EvaluateJobSettings(settings, EvaluateSettings(), "y", True)
    paths = {
        "posterior": folder / "posterior.zarr",
        "flow": folder / "flow.safetensors",
        "out": folder / "metrics.json",
    }
    evaluate.evaluate(judged, RECORD, **paths, reference=None, calibration=None)
    metrics = read_json(folder / "metrics.json")
    assert metrics["predictive_chi_square_spread"] == pytest.approx(math.sqrt(2 / 3))
    assert metrics["predictive_chi_square"] == pytest.approx(float(misfit.mean()) / 3, rel=1e-4)


def test_measured_data_may_be_nan_where_they_are_missing(folder):
    np.save(folder / "measured.npy", np.array([1.0, 2.0, np.nan, 3.0], dtype="f4"))
    wanted = ObserveJobSettings(
        problem_settings("gaussian", side=2), ObservationSettings(file=str(folder / "measured.npy"))
    )
    observe.observe(wanted, RECORD, out=folder / "y.zarr")
    np.testing.assert_array_equal(read_arrays(folder / "y.zarr", ("y",))[0]["y"], [1, 2, 0, 3])
    np.save(folder / "measured.npy", np.array([1.0, np.nan, 0.0, 3.0], dtype="f4"))
    with pytest.raises(PflowError, match="must be finite and has 1 NaN"):
        observe.observe(wanted, RECORD, out=folder / "y.zarr")


@pytest.mark.parametrize("folder", [Bounded], indirect=True)
def test_draws_map_back_to_bounded_parameters_and_scores_need_a_gradient(folder):
    settings = problem_settings("gaussian", side=2)
    observe.observe(
        ObserveJobSettings(settings, ObservationSettings(seed=3)), RECORD, out=folder / "y.zarr"
    )
    tree = sampled(folder, settings, draws=100)
    x, physical = tree["posterior"]["x"].values, tree["posterior"]["physical"].values
    np.testing.assert_allclose(physical, 2 / (1 + np.exp(-x)), rtol=1e-5)
    assert "score_stats" not in tree and tree.attrs["sampling_evaluations"] == 0
    y = tree["observed_data"]["y"].values
    misfit = (((y - np.sqrt(physical)) / 0.1) ** 2).mean(-1)
    np.testing.assert_allclose(tree["sample_stats"]["chi_square"].values, misfit, rtol=1e-3)

    prior, stats = tree["prior"], tree["sample_stats_prior"]
    allowed = prior["physical"].values[0]
    np.testing.assert_allclose(allowed, 2 / (1 + np.exp(-prior["x"].values[0])), rtol=1e-5)
    assert len(allowed) == 1000  # for the figures, of which eight are evaluated
    residual = (y - np.sqrt(allowed[:8])) / 0.1
    expected = -0.5 * (residual**2).sum(-1) - 4 * math.log(0.1 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(stats["log_likelihood"].values[0], expected, rtol=1e-3)
    truth = tree["constant_data"]
    np.testing.assert_allclose(truth["physical_true"], 2 / (1 + np.exp(-truth["x_true"].values)))
    names = tree["posterior"]["x_dim"].values.tolist()
    assert (
        tree["posterior"]["physical_dim"].values.tolist() == names == [f"x[{i}]" for i in range(4)]
    )
