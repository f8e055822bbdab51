"""The pipeline on a real SLURM: jobs ask for what the configuration says, and a cancelled training continues.

The tests build on each other's results, as a user's runs do: first everything, then a change at a time.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import TINY, Project

pytestmark = pytest.mark.slow

QUICK = ("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")


def configuration(device: str = "cpu", epochs: int = 2, memory: int = 800, **resources: object) -> dict:
    whole = copy.deepcopy(TINY)
    tiny = whole["experiments"]["tiny"]
    tiny["device"] = device
    tiny["resources"] = {"memory_mb": memory, "runtime_minutes": 7, **resources}
    tiny["simulate"] = {"train": 300, "validation": 100, "test": 100}
    tiny["flows"] = {"coupling": {"name": "coupling", "depth": 4, "hidden": 16, "pretrain": {"epochs": epochs, "batch": 32}}}
    tiny["finetune"] = {name: tiny["finetune"][name] for name in ("preconditioned",)}
    return whole


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("slurm") / "project", configuration())


def start(project: Project, *arguments: str) -> subprocess.Popen:
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PFLOW_CHECKPOINT_SECONDS": "0.2"}
    command = [sys.executable, "-m", "snakemake", *QUICK, *arguments]
    return subprocess.Popen(command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def submitted(text: str) -> list[str]:
    return re.findall(r"SLURM jobid (\d+)", text)


def describe(job: str) -> str:
    return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout


def test_the_whole_experiment_runs_in_few_jobs(project):
    running = start(project)
    text, _ = running.communicate(timeout=280)
    assert running.returncode == 0, text
    metrics = json.loads((project.folder / "results/tiny/posteriors/y1/preconditioned/seed-0/metrics.json").read_text())
    assert metrics["device"] == "cpu" and metrics["evaluations"] == 96
    assert (project.folder / "results/report.html").exists()
    pipeline_jobs = int(re.search(r"^total +(\d+)", text, re.M)[1])
    assert len(submitted(text)) <= pipeline_jobs - 5, "small jobs are grouped"


def test_a_gpu_job_gets_its_gpu_and_says_when_it_is_none(project):
    """The device is a clone of /dev/null: SLURM hands it out, PyTorch sees no GPU in it."""
    project.write(configuration(device="cuda", memory=900, gpu_model="fake"))
    running = start(project, "--retries", "0", "pretrain")
    text, _ = running.communicate(timeout=200)
    assert running.returncode != 0
    message = r"`device` is cuda and PyTorch .* sees no GPU \(CUDA_VISIBLE_DEVICES is [01]\)"
    assert re.search("error: " + message, text), text
    assert re.search(r"What failed, and why:\n\S*pretrain/coupling.log: error: " + message, text), text
    asked = describe(submitted(text)[-1])
    assert "TresPerJob=gres:gpu:fake:1" in asked, asked
    assert "MinMemoryNode=900M" in asked and "TimeLimit=00:07:00" in asked and "NumCPUs=1" in asked, asked


def test_a_cancelled_training_continues_with_more_memory(project):
    project.write(configuration(epochs=400))
    running = start(project, "pretrain")
    states = project.folder / "results/tiny/.checkpoints/pretrained/coupling"
    deadline = time.monotonic() + 120
    while not (states / "state.safetensors.previous").exists():
        assert time.monotonic() < deadline and running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    queue = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()
    assert len(queue) == 1
    subprocess.run(["scancel", queue[0]], check=True)
    text, _ = running.communicate(timeout=250)
    assert running.returncode == 0, text
    first, second = submitted(text)[-2:]
    assert first == queue[0] and "JobState=CANCELLED" in describe(first)
    assert "MinMemoryNode=1600M" in describe(second) and "TimeLimit=00:14:00" in describe(second)
    log = (project.folder / "results/tiny/logs/pretrain/coupling.log").read_text()
    assert int(re.search(r"continues after step (\d+)", log)[1]) > 0
    about = json.loads((project.folder / "results/tiny/pretrained/coupling/flow.json").read_text())
    assert about["steps"] == 400 * 10 and about["device"] == "cpu"
    assert not list(states.rglob("*"))
