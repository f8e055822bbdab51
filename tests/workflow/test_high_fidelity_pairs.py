"""The example of two fidelities and no likelihood, small: from its script to its report."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from tests.support.project import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_example_runs_and_is_calibrated_on_high_fidelity(tmp_path):
    configuration = yaml.safe_load((ROOT / "config/epidemic.yaml").read_text())
    epidemic = configuration["experiments"]["epidemic"]
    for flow in epidemic["flows"].values():
        flow |= {"depth": 2, "hidden": 16}
        flow["pretrain"] = flow["pretrain"] | {"epochs": 3, "patience": 2}
    epidemic["sample"]["draws"] = 200
    epidemic["calibrate"] = {"draws": 20}
    project = Project(tmp_path / "project", configuration)
    script = [sys.executable, str(ROOT / "config/epidemic.py"), "--low", "600", "--high", "200"]
    subprocess.run(script, cwd=project.folder, check=True)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    results = project.folder / "results/epidemic"
    about = json.loads((results / "pretrained/high/flow.json").read_text())
    assert (about["pairs"], about["start"]) == ("high_fidelity", "low")
    for flow in epidemic["flows"]:
        calibration = json.loads((results / f"pretrained/{flow}/calibration.json").read_text())
        assert calibration["pairs"] == 50, "a quarter of 200"
        assert calibration["held_out_nats"] < 50
    for method in epidemic["finetune"]:
        metrics = json.loads((results / f"posteriors/y1/{method}/seed-0/metrics.json").read_text())
        assert metrics["verdict"] in ("usable with care", "do not use")
        assert metrics["evaluations"] == 0 and "ess_fraction" not in metrics
    page = (project.folder / "results/report.html").read_text()
    assert "high-fidelity pairs from the weights of low" in page
    assert "Nothing to be done" in project.snakemake().stdout
