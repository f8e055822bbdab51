"""The pipeline as a user runs it: from nothing to a report, and nothing twice."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from pflow.cli import main
from pflow.config.decoding import decode
from pflow.config.jobs import FiguresJobSettings
from pflow.config.loading import load_configuration
from pflow.figures.posterior import posterior_2d
from pflow.pipeline.stages import settings_for
from pflow.report.numbers import format_number
from pflow.stages.figures import figures
from pflow.stages.io import observation_figures
from pflow.storage.text_files import read_csv
from tests.support.project import TINY, Project

METHODS = ("amortized", "preconditioned", "seed_paper_scratch")
UP_TO_THE_METRICS = (
    "simulate",
    "observe",
    "check_operator",
    "reference",
    "pretrain",
    "calibrate",
    "finetune",
    "sample",
    "evaluate",
)
UNTIMED = {"wall_seconds", "seconds_per_step", "peak_memory_mb"}
pytestmark = pytest.mark.slow


def run_folder(project, method):
    return project.folder / f"results/tiny/posteriors/y1/{method}/seed-0"


def test_everything_is_made_and_says_what_it_is(finished):
    for method in METHODS:
        metrics = json.loads((run_folder(finished, method) / "metrics.json").read_text())
        expected = {
            "kl_reverse_nats",
            "kl_reverse_nats_se",
            "kl_forward_nats",
            "ess_fraction",
            "elbo_nats",
            "log_evidence_error_nats",
            "evaluations",
            "checked_evaluations",
            "wall_seconds",
            "predictive_chi_square",
            "score_error",
            "missed_mass",
            "coverage_90",
            "c2st",
            "verdict",
            "verdict_reasons",
        }
        assert expected <= metrics.keys()
        assert metrics["kl_reverse_nats"] > -3 * metrics["kl_reverse_nats_se"]
        assert 0 < metrics["ess_fraction"] <= 1
        assert metrics["evaluations"] == TINY["experiments"]["tiny"]["finetune"][method].get(
            "evaluations", 0
        )
    page = (finished.folder / "results/report.html").read_text()
    assert "Does everything run?" in page and "do not use" in page


def test_jobs_find_their_python_where_no_environment_is_activated(project):
    """A system's own python, if it has one, has no torch."""
    shard = "results/tiny/pairs/test/shard-0.zarr/zarr.json"
    done = project.snakemake(shard, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout


def test_only_methods_that_start_from_a_pretrained_flow_know_its_calibration(finished):
    calibration = json.loads(
        (finished.folder / "results/tiny/pretrained/coupling/calibration.json").read_text()
    )
    assert 0 < calibration["sbc_p_value"] <= 1 and calibration["pairs"] == 100
    here = calibration["observations"]["y1"]
    metrics_of = {
        method: json.loads((run_folder(finished, method) / "metrics.json").read_text())
        for method in METHODS
    }
    assert (
        metrics_of["amortized"]["sbc_p_value"] == calibration["sbc_p_value"]
        and metrics_of["amortized"]["local_c2st_p_value"] == here["local_c2st_p_value"]
    )
    assert (
        metrics_of["preconditioned"]["ood_p_value"] == here["ood_p_value"]
        and "sbc_p_value" not in metrics_of["preconditioned"]
    )
    assert "ood_p_value" not in metrics_of["seed_paper_scratch"]


def test_a_flow_that_is_far_off_is_never_called_trustworthy(finished):
    """Two epochs on 300 pairs: the amortised flow is far from the posterior."""
    metrics = json.loads((run_folder(finished, "amortized") / "metrics.json").read_text())
    assert (
        metrics["kl_reverse_nats"] > 1
        and metrics["verdict"] == "do not use"
        and metrics["verdict_reasons"]
    )


def test_without_a_reference_everything_but_the_comparison_is_there(finished_copy):
    project = finished_copy
    shutil.rmtree(project.folder / "results/tiny/posteriors/y1/reference.zarr")
    configuration = copy.deepcopy(TINY)
    configuration["experiments"]["tiny"] |= {
        "reference": {"kind": "none"},
        "finetune": {"amortized": configuration["experiments"]["tiny"]["finetune"]["amortized"]},
    }
    configuration["experiments"]["tiny"]["flows"].pop("chint")
    project.write(configuration)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    metrics = json.loads((run_folder(project, "amortized") / "metrics.json").read_text())
    assert {"verdict", "pareto_k", "predictive_chi_square", "score_error"} <= metrics.keys()
    assert not {"kl_reverse_nats", "c2st", "mean_error_posterior_std"} & metrics.keys()
    assert not (project.folder / "results/tiny/posteriors/y1/reference.zarr").exists()
    assert "There is no reference posterior" in (project.folder / "results/report.html").read_text()


def test_posterior_is_consistent_with_its_own_densities(finished):
    for method in METHODS:
        with xr.open_datatree(
            run_folder(finished, method) / "posterior.zarr", engine="zarr", consolidated=False
        ) as tree:
            stats = tree["sample_stats"]
            assert tree["posterior"]["x"].shape == (1, 200, 2)
            np.testing.assert_allclose(
                stats["log_weight"], stats["lp"] - stats["log_q"], rtol=0, atol=1e-5
            )
            assert tree.attrs["method"] == method
            np.testing.assert_array_equal(tree["constant_data"]["x_true"], [2, 4])
            metrics = json.loads((run_folder(finished, method) / "metrics.json").read_text())
            assert metrics["elbo_nats"] == pytest.approx(
                float(stats["log_weight"].astype("f8").mean()), abs=1e-3
            )


def test_history_has_accuracy_at_the_start_and_the_end(finished):
    history = read_csv(run_folder(finished, "preconditioned") / "history.csv")
    assert history["evaluations"][0] == 0 and history["evaluations"][-1] == 96
    measured = ~np.isnan(history["kl_reverse_nats"])
    assert measured[0] and measured[-1]
    assert list(history["evaluations"][measured]) == [0, 32, 64, 96]


def test_preconditioned_starts_where_the_amortised_flow_is(finished):
    start = read_csv(run_folder(finished, "preconditioned") / "history.csv")["kl_reverse_nats"][0]
    amortised = read_csv(run_folder(finished, "amortized") / "history.csv")["kl_reverse_nats"][0]
    assert start == amortised


def test_a_second_run_has_nothing_to_do(finished_copy):
    done = finished_copy.snakemake()
    assert done.returncode == 0 and "Nothing to be done" in done.stdout


def test_the_same_configuration_gives_the_same_metrics(finished, tmp_path, monkeypatch):
    """Every stage again, in another folder and in one process: the commands in the logs, from the
    pairs to the metrics.
    """
    monkeypatch.chdir(tmp_path)
    logs = finished.folder / "results/tiny/logs"
    for stage in UP_TO_THE_METRICS:
        for log in sorted([*logs.glob(f"{stage}.log"), *(logs / stage).rglob("*.log")]):
            command = log.read_text().splitlines()[0].removeprefix("$ python -m pflow ")
            arguments = shlex.split(command)
            out = Path(arguments[arguments.index("--out") + 1])
            (out.parent if out.suffix else out).mkdir(parents=True, exist_ok=True)
            assert main(arguments) == 0, command
    for method in METHODS:
        first, second = (
            json.loads((run_folder(project, method) / "metrics.json").read_text())
            for project in (finished, Project.at(tmp_path))
        )
        assert {k: v for k, v in first.items() if k not in UNTIMED} == {
            k: v for k, v in second.items() if k not in UNTIMED
        }


def test_targets_by_name(project):
    simulate = project.snakemake("-n", "simulate").stdout
    assert "simulate_shard" in simulate and "pretrain_flow" not in simulate
    one = project.snakemake("-n", "tiny").stdout
    assert "evaluate_posterior" in one and "draw_figures" in one and "write_report" not in one


def test_planning_imports_neither_torch_nor_matplotlib(project, tmp_path):
    for name in ("torch", "matplotlib"):
        (tmp_path / "traps" / name).mkdir(parents=True)
        (tmp_path / "traps" / name / "__init__.py").write_text(
            "raise RuntimeError('imported while planning')"
        )
    done = project.snakemake("-n", env={"PYTHONPATH": str(tmp_path / "traps")})
    assert done.returncode == 0 and "imported while planning" not in done.stdout


def test_lint_is_clean(project):
    assert "your workflow is in a good condition" in project.snakemake("--lint").stdout


def test_gpu_is_asked_for_when_the_configuration_does(project, tiny):
    assert "gpu=1" not in project.snakemake("-n").stdout
    tiny["experiments"]["tiny"]["device"] = "cuda"
    project.write(tiny)
    plan = project.snakemake("-n").stdout
    blocks = plan.split("\nrule ")
    for rule in ("pretrain_flow", "finetune_flow", "sample_posterior"):
        assert all("gpu=1" in block for block in blocks if block.startswith(rule)), rule
    assert all("gpu=1" not in block for block in blocks if block.startswith("simulate_shard"))


def test_a_stage_runs_without_snakemake_from_the_first_line_of_its_log(finished, tmp_path):
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    command = (
        (tmp_path / "results/tiny/logs/evaluate/y1/amortized/seed-0.log")
        .read_text()
        .splitlines()[0]
    )
    metrics = tmp_path / "results/tiny/posteriors/y1/amortized/seed-0/metrics.json"
    before = metrics.read_text()
    metrics.unlink()
    done = subprocess.run(
        ["bash", "-c", command.removeprefix("$ ").replace("python", sys.executable, 1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert metrics.read_text() == before


def test_figures_are_redrawn_from_the_stores_alone_and_say_the_numbers_of_the_page(
    finished, tmp_path, monkeypatch
):
    configuration = load_configuration(
        yaml.safe_load((finished.folder / "config.yaml").read_text())
    )
    settings = decode(
        FiguresJobSettings, json.loads(settings_for(configuration, "figures", "tiny")), ""
    )
    seen = {}
    monkeypatch.setattr(
        observation_figures,
        "posterior_2d",
        lambda *draws, **more: seen.update(more["remarks"]) or posterior_2d(*draws, **more),
    )
    figures(settings, {}, results=finished.folder / "results/tiny", out=tmp_path / "figures")
    for picture in (tmp_path / "figures").iterdir():
        assert (
            picture.read_bytes()
            == (finished.folder / "results/tiny/figures" / picture.name).read_bytes()
        ), picture.name
    metrics = {
        method: json.loads((run_folder(finished, method) / "metrics.json").read_text())
        for method in METHODS
    }
    assert seen == {
        method: f"KL {format_number(metrics[method]['kl_reverse_nats'], 2)} nats"
        for method in METHODS
    }
