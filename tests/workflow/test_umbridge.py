"""A pipeline over a UM-Bridge server, without a line of Python."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import yaml

from pflow.storage.store import read_arrays
from tests.support import umbridge_server

pytestmark = pytest.mark.slow

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


def test_jobs_ask_a_server_that_only_the_configuration_names(tmp_path):
    np.savez(tmp_path / "measured.npz", y=np.array(Y))
    with umbridge_server.serving(tmp_path) as url:
        experiment = {**EXPERIMENT, "problem": {"umbridge": url, **EXPERIMENT["problem"]}}
        (tmp_path / "bridge.yaml").write_text(
            yaml.safe_dump({"experiments": {"bridge": experiment}})
        )
        done = subprocess.run(
            [sys.executable, "-m", "pflow", "run", "bridge.yaml", "observe", "simulate"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/bridge"
    pairs = read_arrays(results / "pairs/train/shard-0.zarr", ("x", "y"))[0]
    a, b = pairs["x"].T
    residual = (pairs["y"] - np.stack([a + b, a - b, a], 1)) / 0.2  # scale 1, the low fidelity
    assert 0.9 < residual.std() < 1.1
    np.testing.assert_allclose(
        read_arrays(results / "observations/measured.zarr", ("y",))[0]["y"], Y
    )
