"""Calibration of a method over replicate observations: uniform ranks for exact posteriors, not for
wrong ones; and which jobs that takes.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from pflow.config.decoding import decode
from pflow.config.jobs import CalibrateJobSettings, ObserveJobSettings
from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.pipeline.stages import settings_for
from pflow.pipeline.workflow import Pipeline
from pflow.problems.gaussian import Gaussian
from pflow.stages import calibrate_method
from pflow.stages.observe import observe
from tests.support.affine_flow import AffineFlow
from tests.support.record import RECORD


def configuration(**calibrate) -> dict:
    methods = {
        "amortized": {"flow": "flow", "objective": "none"},
        "tuned": {
            "flow": "flow",
            "start": "pretrained",
            "objective": "reverse_kl",
            "evaluations": 512,
        },
    }
    experiment = {
        "problem": {"name": "gaussian", "side": 1},
        "observations": {"y1": {}},
        "flows": {"flow": {"name": "coupling"}},
        "finetune": methods,
        "calibrate": calibrate,
    }
    return {"experiments": {"line": experiment}}


def calibrated(tmp_path, monkeypatch, factor: float, replicates: int = 60) -> dict:
    """The stage on the exact posterior of y = b x + noise, its standard deviation times
    `factor`.
    """
    problem = Gaussian(side=1)
    at_zero, at_one = (
        problem.exact_posterior(torch.full((1, 1), float(y), dtype=torch.float64)) for y in (0, 1)
    )
    flow = AffineFlow(
        1, float(at_one.mean - at_zero.mean), factor * float(at_zero.std), float(at_zero.mean)
    )
    monkeypatch.setattr(calibrate_method, "load_flow", lambda path, device: (flow, {}))
    loaded = load_configuration(configuration(fine_tuned=replicates, seed=1))
    stores = [tmp_path / f"replicate-{k}.zarr" for k in range(replicates)]
    for store in stores:
        observe(
            decode(
                ObserveJobSettings,
                json.loads(settings_for(loaded, "observe", "line", observation=store.stem)),
                "",
            ),
            RECORD,
            out=store,
        )
    settings = decode(
        CalibrateJobSettings,
        json.loads(settings_for(loaded, "calibrate_method", "line", method="tuned")),
        "",
    )
    calibrate_method.calibrate_method(
        settings, RECORD, flows=stores, observations=stores, out=tmp_path / "tuned.json"
    )
    return json.loads((tmp_path / "tuned.json").read_text())


def test_exact_posteriors_are_calibrated_and_narrow_ones_are_not(tmp_path, monkeypatch):
    exact = calibrated(tmp_path / "exact", monkeypatch, 1.0)
    assert (
        exact["numbers"]["replicates"] == 60
        and exact["numbers"]["sbc_p_value"] > 0.05
        and exact["numbers"]["tarp_p_value"] > 0.05
    )
    assert (
        abs(exact["numbers"]["coverage_90"] - 0.9) < 0.1
        and len(
            set(
                exact["ranks"]["x"]
                if "x" in exact["ranks"]
                else next(iter(exact["ranks"].values()))
            )
        )
        > 30
    )
    narrow = calibrated(tmp_path / "narrow", monkeypatch, 0.4)
    assert narrow["numbers"]["sbc_p_value"] < 0.01 and narrow["numbers"]["coverage_90"] < 0.7


def test_replicates_are_fine_tuned_where_they_are_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline(configuration(fine_tuned=3), tmp_path)
    assert pipeline.stage_files("calibrate_method", "line") == [
        "results/line/calibration/tuned.json"
    ], "the amortised flow has a calibration already"
    wildcards = SimpleNamespace(experiment="line", method="tuned")
    assert pipeline.inputs_of("calibrate_method", wildcards)["flows"] == [
        f"results/line/posteriors/replicate-{k}/tuned/seed-0/flow.safetensors" for k in range(3)
    ]
    texts = {
        settings_for(pipeline.configuration, "observe", "line", observation=f"replicate-{k}")
        for k in range(3)
    }
    assert len(texts) == 3
    assert Pipeline(configuration(), tmp_path).stage_files("calibrate_method", "line") == []
    with pytest.raises(PflowError, match="must be 0 or at least 2"):
        load_configuration(configuration(fine_tuned=1))
    taken = configuration()
    taken["experiments"]["line"]["observations"] = {"replicate-0": {}}
    with pytest.raises(PflowError, match="has the name of a replicate observation"):
        load_configuration(taken)
