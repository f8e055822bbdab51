"""From a UM-Bridge server to a posterior without a line of Python."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pflow.posterior import load_posterior
from tests.support import umbridge_server

pytestmark = pytest.mark.long

Y = [0.5, 1.5, 1.2]
EXPERIMENT = {
    "problem": {
        "model": "linear",
        "config": {"scale": 2.0},
        "low_fidelity": {"config": {"scale": 1.0}},
        "prior": {"name": "normal", "mean": [0.5], "std": [1.0]},
        "noise_std": [0.2],
    },
    "simulate": {"train": 200, "validation": 64, "test": 64},
    "observations": {"measured": {"file": "measured.npz"}},
    "reference": {"kind": "none"},
    "seeds": [0],
    "flows": {"coupling": {"name": "coupling", "depth": 2, "hidden": 8, "pretrain": {"epochs": 1}}},
    "finetune": {
        "after": {
            "flow": "coupling",
            "start": "pretrained",
            "objective": "surrogate",
            "evaluations": 16,
            "low_fidelity": False,
        }
    },
}


def exact_posterior():
    """Mean and standard deviations under x ~ N(0.5, 1), y = A x + N(0, 0.2^2)."""
    matrix = np.array([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]])
    covariance = np.linalg.inv(np.eye(2) + matrix.T @ matrix / 0.2**2)
    mean = covariance @ (np.full(2, 0.5) + matrix.T @ np.array(Y) / 0.2**2)
    return mean, np.sqrt(np.diag(covariance))


def test_a_server_and_a_configuration_give_the_posterior(tmp_path):
    np.savez(tmp_path / "measured.npz", y=np.array(Y))
    with umbridge_server.serving(tmp_path) as url:
        experiment = {**EXPERIMENT, "problem": {"umbridge": url, **EXPERIMENT["problem"]}}
        (tmp_path / "bridge.yaml").write_text(
            yaml.safe_dump({"experiments": {"bridge": experiment}})
        )
        done = subprocess.run(
            [sys.executable, "-m", "pflow", "run", "bridge.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/bridge/posteriors/measured/after/seed-0"
    x = load_posterior(folder)["posterior"]["x"].values.reshape(-1, 2)
    mean, std = exact_posterior()
    np.testing.assert_allclose(x.mean(0), mean, atol=0.1 * std.min())
    np.testing.assert_allclose(x.std(0), std, rtol=0.1)
    assert json.loads((folder / "metrics.json").read_text())["evaluations"] <= 16
