"""The pipeline on a real SLURM of two nodes: what jobs ask for, and that whatever ends them early,
they continue.

The tests build on each other's results, as a user's runs do: first everything, then a change at a
time.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pflow.storage.weights import read_weights
from tests.support.project import TINY, Project

pytestmark = pytest.mark.slow

QUICK = (
    "--workflow-profile",
    "slurm",
    "--slurm-init-seconds-before-status-checks",
    "2",
    "--latency-wait",
    "10",
)
PATIENCE = 600


def experiment(
    epochs: int = 2,
    flows: tuple[str, ...] = ("coupling",),
    device: str = "cpu",
    memory: int = 800,
    train: int = 300,
    nodes: int = 1,
    **resources: object,
) -> dict:
    tiny = copy.deepcopy(TINY["experiments"]["tiny"])
    tiny["device"] = device
    tiny["resources"] = {"memory_mb": memory, "runtime_minutes": 7, **resources}
    tiny["simulate"] = {"train": train, "validation": 100, "test": 100}
    pretraining = {"epochs": epochs, "patience": 0, "batch": 32, "nodes": nodes}
    tiny["flows"] = {
        name: {"name": "coupling", "depth": 4, "hidden": 16, "pretrain": pretraining}
        for name in flows
    }
    tiny["finetune"] = {"preconditioned": {**tiny["finetune"]["preconditioned"], "flow": flows[0]}}
    return tiny


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory) -> Project:
    return Project(
        tmp_path_factory.mktemp("slurm") / "project", {"experiments": {"tiny": experiment()}}
    )


@contextmanager
def start(project: Project, *arguments: str) -> Iterator[subprocess.Popen]:
    """A controller; where it is killed, the folder is unlocked, as a person would do."""
    command = [sys.executable, "-m", "snakemake", *QUICK, *arguments]
    with subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment() | {"PFLOW_CHECKPOINT_SECONDS": "0.2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
                project.snakemake("--unlock")


def run(project: Project, *arguments: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    with start(project, *arguments) as running:
        text, _ = running.communicate(timeout=PATIENCE)
    return running.returncode, text


def submitted(text: str) -> list[str]:
    return re.findall(r"SLURM jobid (\d+)", text)


def slurm(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def describe(job: str) -> str:
    return slurm("scontrol", "show", "job", job)


def wait_for(
    condition: Callable[[], bool],
    what: str,
    running: subprocess.Popen | None = None,
    seconds: float = PATIENCE,
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (running is not None and running.poll() is not None):
            pytest.fail(
                f"waited in vain for {what}:"
                f" {running.communicate()[0] if running is not None else slurm('squeue')}"
            )
        time.sleep(0.05)


def states(project: Project, flow: str, name: str = "tiny") -> Path:
    return project.folder / f"results/{name}/.checkpoints/pretrained/{flow}"


def owner(project: Project, flow: str) -> dict:
    """Process and SLURM job that train a flow."""
    return json.loads((states(project, flow) / ".state.safetensors.lock").read_text())


def log(project: Project, flow: str, name: str = "tiny") -> str:
    return (project.folder / f"results/{name}/logs/pretrain/{flow}.log").read_text()


def about(project: Project, flow: str, name: str = "tiny") -> dict:
    return json.loads((project.folder / f"results/{name}/pretrained/{flow}/flow.json").read_text())


def test_the_whole_experiment_runs_in_few_jobs_and_trains_on_two_nodes(project, tmp_path):
    """`device: auto` asks for GPUs, and takes the CPU where those it gets are none: clones of
    /dev/null.
    """
    project.write({"experiments": {"tiny": experiment(device="auto", nodes=2, gpu_model="fake")}})
    status, text = run(project)
    assert status == 0, text
    metrics = json.loads(
        (
            project.folder / "results/tiny/posteriors/y1/preconditioned/seed-0/metrics.json"
        ).read_text()
    )
    assert metrics["device"] == "cpu" and metrics["evaluations"] == 96
    assert (project.folder / "results/report.html").exists()
    pipeline_jobs = int(re.search(r"^total +(\d+)", text, re.M)[1])
    assert len(submitted(text)) <= pipeline_jobs - 4, "small jobs are grouped"
    jobs = [describe(job) for job in submitted(text)]
    of_rule = {
        match[1]: description
        for description in jobs
        if (match := re.search(r"Comment=rule_(\w+?)_wildcards", description))
    }
    training = of_rule["pretrain_flow"]
    assert (
        "NumNodes=2" in training
        and "NumTasks=2" in training
        and "TresPerNode=gres:gpu:fake:1" in training
    ), training
    assert "TresPerJob=gres:gpu:fake:1" in of_rule["finetune_flow"], of_rule["finetune_flow"]
    assert "gres:gpu" not in of_rule["simulate_shard"]
    assert about(project, "coupling")["processes"] == 2 and not list(
        states(project, "coupling").parent.rglob("*")
    )
    arguments = shlex.split(
        log(project, "coupling").splitlines()[0].removeprefix("$ python -m pflow")
    )
    arguments[arguments.index("--nodes") + 1] = "1"
    arguments[arguments.index("--out") + 1], arguments[arguments.index("--checkpoint") + 1] = (
        str(tmp_path / "one"),
        str(tmp_path / "state.safetensors"),
    )
    subprocess.run([sys.executable, "-m", "pflow", *arguments], cwd=project.folder, check=True)
    one, two = (
        read_weights(folder / "flow.safetensors")[0]
        for folder in (tmp_path / "one", project.folder / "results/tiny/pretrained/coupling")
    )
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, atol=1e-4)


def test_jobs_that_fail_are_tried_again_where_that_can_help(project):
    """No GPU in the GPU that was handed out: said, and tried again. Too little memory: tried with
    more. A damaged file: not tried again.
    """
    others = {"hungry": experiment(memory=300), "damaged": experiment()}
    project.write(
        {"experiments": {"tiny": experiment(device="cuda", memory=900, gpu_model="fake"), **others}}
    )
    status, text = run(project, "simulate")
    assert status == 0, text
    next(
        p
        for p in (project.folder / "results/damaged/pairs/train/shard-0.zarr/x/c").rglob("*")
        if p.is_file()
    ).unlink()
    status, text = run(project, "pretrain")
    assert status != 0
    jobs = {
        name: [job for job in submitted(text) if f"wildcards_{name}_" in describe(job)]
        for name in ("tiny", "hungry", "damaged")
    }

    message = r"`device` is cuda and PyTorch .* sees no GPU \(CUDA_VISIBLE_DEVICES is [01]\)"
    assert re.search(
        r"What failed, and why:\n(.*\n)*\S*tiny/logs/pretrain/coupling.log: error: " + message, text
    ), text
    asked = describe(jobs["tiny"][0])
    assert (
        "TresPerJob=gres:gpu:fake:1" in asked
        and "MinMemoryNode=900M" in asked
        and "TimeLimit=00:07:00" in asked
        and "NumCPUs=1" in asked
    ), asked
    assert len(jobs["tiny"]) == 3

    memory = [re.search(r"MinMemoryNode=(\w+)", describe(job))[1] for job in jobs["hungry"]]
    assert memory in (["300M", "600M"], ["300M", "600M", "900M"]), memory
    # Snakemake may read the job's log before SLURM has written why it ended
    logs = (project.folder / ".snakemake/slurm_logs/rule_pretrain_flow/hungry_coupling").glob("*")
    assert any("exceeded memory limit" in said for said in (text, *(p.read_text() for p in logs)))
    assert about(project, "coupling", "hungry")["steps"] == 2 * 10

    assert re.search(
        r"has 0 of its \d chunks: delete .* not tried again\)", log(project, "coupling", "damaged")
    )


def test_whatever_ends_a_training_early_it_continues(project):
    """scancel, a time limit, a preemption and a lost node, all in one run; each training is stopped
    (SIGSTOP) after its first states, so that it waits.
    """
    flows = ("one", "two", "three", "four")
    project.write({"experiments": {"tiny": experiment(150, flows)}})
    with start(project, "pretrain") as running:
        for flow in flows:
            wait_for(
                lambda flow=flow: (states(project, flow) / "state.safetensors.previous").exists(),
                f"the states of {flow}",
                running,
            )
            os.kill(owner(project, flow)["pid"], signal.SIGSTOP)
        jobs = {flow: owner(project, flow)["job"] for flow in flows}
        where = {
            flow: re.search(r" NodeList=(\w+)", describe(job))[1] for flow, job in jobs.items()
        }
        here, there = (
            [flow for flow in flows if where[flow] == node] for node in ("pflow0", "pflow1")
        )
        assert len(here) == len(there) == 2, where
        (cancelled, preempted), (late, lost) = here, there
        slurm("scancel", jobs[cancelled])
        slurm("scontrol", "update", f"JobId={jobs[late]}", "TimeLimit=1")
        wait_for(lambda: "JobState=TIMEOUT" in describe(jobs[late]), "the time limit", running)
        urgent = slurm(
            "sbatch",
            "--parsable",
            "--partition=urgent",
            "--nodelist=pflow0",
            "--cpus-per-task=2",
            "--mem=100",
            "--output=/dev/null",
            "--wrap=sleep 3",
        )
        wait_for(
            lambda: "PreemptTime=None" not in describe(jobs[preempted]), "the preemption", running
        )
        wait_for(lambda: "JobState=COMPLETED" in describe(urgent), "the urgent job", running)
        slurm("scontrol", "update", "NodeName=pflow1", "State=down", "Reason=test")
        wait_for(lambda: "Restarts=1" in describe(jobs[lost]), "the lost node", running)
        subprocess.run(
            ["scontrol", "update", "NodeName=pflow1", "State=resume"], capture_output=True
        )  # unless it has come back by itself
        wait_for(
            lambda: (
                slurm("sinfo", "-h", "-n", "pflow1", "-p", "cpu", "-o", "%t")
                in ("idle", "mix", "alloc")
            ),
            "the node to be back",
            running,
        )
        slurm(
            "scontrol", "update", f"JobId={jobs[lost]}", "StartTime=now"
        )  # SLURM waits two minutes
        text, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, text
    assert "JobState=CANCELLED" in describe(jobs[cancelled])
    # The instance on the lost node may die last, and its Snakemake then removes what the requeued
    # job has made: a retry finds that kept.
    kept = "made by an earlier job, whose end was not seen" in log(project, lost)
    assert kept or "JobState=COMPLETED" in describe(jobs[lost])
    for flow in flows:
        assert about(project, flow)["steps"] == 150 * 10
        if not (kept and flow == lost):
            assert int(re.search(r"continues after step (\d+)", log(project, flow))[1]) > 0
    for flow in (
        cancelled,
        late,
        preempted,
    ):  # a job that leaves by itself in the grace time of a preemption has failed, for SLURM
        again = next(
            job
            for job in submitted(text)
            if job not in jobs.values()
            and describe(job).split("Comment=")[1].split()[0].endswith(f"_{flow}")
        )
        assert "MinMemoryNode=1600M" in describe(again) and "TimeLimit=00:14:00" in describe(again)
    assert not list((project.folder / "results/tiny/.checkpoints").rglob("state.*"))


def test_a_duplicate_of_a_training_that_a_killed_controller_left_behind_trains_nothing(project):
    """The second controller submits the job again while the first one runs; here the second job
    begins after the first has ended.
    """
    project.write({"experiments": {"tiny": experiment(150, ("orphan",))}})
    with start(project, "pretrain") as running:
        wait_for(
            lambda: (states(project, "orphan") / "state.safetensors").exists(),
            "the first state",
            running,
        )
        first = owner(project, "orphan")
        os.kill(first["pid"], signal.SIGSTOP)
    slurm("scontrol", "update", "PartitionName=cpu", "State=DOWN")  # jobs are accepted, and wait
    with start(project, "pretrain") as running:
        wait_for(lambda: len(slurm("squeue", "-h").splitlines()) == 2, "the second job", running)
        os.kill(first["pid"], signal.SIGCONT)
        wait_for(lambda: "JobState=COMPLETED" in describe(first["job"]), "the first job", running)
        before = about(project, "orphan")
        slurm("scontrol", "update", "PartitionName=cpu", "State=UP")
        text, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, text
    assert len(
        submitted(text)
    ) == 1 and "made by an earlier job, whose end was not seen: nothing to do" in log(
        project, "orphan"
    )
    assert about(project, "orphan") == before and before["steps"] == 150 * 10
    assert not states(project, "orphan").exists()
