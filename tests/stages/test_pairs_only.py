"""Pairs without an operator, from file to report: y = x + noise with a Gaussian prior, whose
posterior is known to the test alone.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from pflow.cli import main
from pflow.config.loading import load_configuration
from pflow.pipeline.stages import settings_for
from pflow.posterior import expectation
from pflow.storage.datatrees import read_datatree

pytestmark = pytest.mark.slow

NOISE = 0.5


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 2))
    np.savez("pairs.npz", x=x, y=x + NOISE * random.normal(size=x.shape))
    np.save("y1.npy", np.array([1.0, -0.5]))
    return load_configuration(
        {
            "experiments": {
                "survey": {
                    "pairs": {"file": "pairs.npz", "train": 0.7, "validation": 0.1, "test": 0.2},
                    "problem": {
                        "name": "pairs_only",
                        "parameter_names": ["depth", "speed"],
                        "model_unit": "km",
                    },
                    "observations": {"y1": "y1.npy"},
                    "flows": {
                        "c": {
                            "name": "coupling",
                            "depth": 2,
                            "hidden": 16,
                            "pretrain": {"epochs": 15, "learning_rate": 5e-3},
                        }
                    },
                    "finetune": {"a": {"flow": "c", "objective": "none"}},
                    "seeds": [0],
                    "sample": {"draws": 4000},
                }
            }
        }
    )


def test_pairs_alone_give_a_calibrated_posterior_without_weights(configuration, tmp_path, capsys):
    e, run = "results/survey", {"observation": "y1", "method": "a", "seed": "0"}

    def stage(name: str, wildcards: dict, **paths: str | list[str]) -> None:
        experiment = None if name == "report" else "survey"
        settings = settings_for(configuration, name, experiment, **wildcards)
        options = [
            part
            for option, value in paths.items()
            for part in (
                f"--{option.replace('_', '-')}",
                *([value] if isinstance(value, str) else value),
            )
        ]
        assert main([name, "--settings", settings, *options]) == 0, capsys.readouterr().err

    pairs = {
        split: f"{e}/pairs/{split}/shard-0.zarr/zarr.json"
        for split in ("train", "validation", "test")
    }
    for split, path in pairs.items():
        stage("simulate", {"split": split, "shard": 0}, out=path)
    observation, flow, here = (
        f"{e}/observations/y1.zarr/zarr.json",
        f"{e}/pretrained/c",
        f"{e}/posteriors/y1/a/seed-0",
    )
    stage("observe", {"observation": "y1"}, out=observation)
    stage(
        "pretrain",
        {"flow": "c"},
        train_shards=[pairs["train"]],
        validation_shards=[pairs["validation"]],
        out=flow,
        checkpoint=f"{e}/state",
    )
    weights = f"{flow}/flow.safetensors"
    stage(
        "calibrate",
        {"flow": "c"},
        flow=weights,
        train_shards=[pairs["train"]],
        test_shards=[pairs["test"]],
        observations=[observation],
        out=f"{flow}/calibration.json",
    )
    stage(
        "finetune",
        run,
        observation=observation,
        pretrained=weights,
        out=here,
        checkpoint=f"{e}/other",
    )
    stage(
        "sample",
        run,
        flow=f"{here}/flow.safetensors",
        observation=observation,
        out=f"{here}/posterior.zarr/zarr.json",
    )
    stage(
        "evaluate",
        run,
        posterior=f"{here}/posterior.zarr/zarr.json",
        flow=f"{here}/flow.safetensors",
        calibration=f"{flow}/calibration.json",
        out=f"{here}/metrics.json",
    )
    stage("figures", {}, results=e, out=f"{e}/figures")
    stage("report", {}, results="results", out="results/report.html")

    tree = read_datatree(tmp_path / here / "posterior.zarr")
    x = tree["posterior"]["x"]
    shrink = 1 / (1 + NOISE**2)
    np.testing.assert_allclose(x.mean(("chain", "draw")), [shrink, -0.5 * shrink], atol=0.08)
    np.testing.assert_allclose(x.std(("chain", "draw")), NOISE * np.sqrt(shrink), rtol=0.12)
    assert list(x["x_dim"].values) == ["depth", "speed"] and x.attrs["units"] == "km"
    assert set(tree["sample_stats"].data_vars) == {"log_q"} and "posterior_predictive" not in tree
    np.testing.assert_allclose(
        expectation(tree, x), x.mean(("chain", "draw")), rtol=1e-5
    )  # every draw counts the same
    metrics = json.loads((tmp_path / here / "metrics.json").read_text())
    assert (
        metrics["verdict"] == "usable with care"
        and metrics["evaluations"] == 0
        and "ess_fraction" not in metrics
    )
    assert any("no operator is known" in reason for reason in metrics["verdict_reasons"])
    page = (tmp_path / "results/report.html").read_text()
    assert "No operator is known in this experiment" in page and "passed its checks" not in page
