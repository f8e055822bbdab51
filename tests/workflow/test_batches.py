"""Several observations in a job, as a user runs it: the results of single jobs, to the bit; a
failed or interrupted observation concerns no other.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.project import TINY, Project
from tests.support.timeless import timeless

pytestmark = [pytest.mark.slow, pytest.mark.long]

OBSERVATIONS = ("y1", "y2", "y3", "y4")
MADE = ("observations", "posteriors")
BATCH = ": fine-tune, sample and evaluate tiny: "


def configuration(observations_per_job: int) -> dict:
    """Two methods at four observations, of which the last is measured."""
    wanted = copy.deepcopy(TINY)
    tiny = wanted["experiments"]["tiny"]
    tiny["observations"] = {name: {"seed": k} for k, name in enumerate(OBSERVATIONS[:3])}
    tiny["observations"]["y4"] = {"file": "y4.npy"}
    tiny["flows"] = {"coupling": tiny["flows"]["coupling"]}
    del tiny["finetune"]["seed_paper_scratch"]
    tiny["resources"] = {"observations_per_job": observations_per_job}
    return wanted


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Project:
    """Made by a job for each stage of each observation."""
    project = Project(tmp_path_factory.mktemp("single") / "project", configuration(1))
    np.save(project.folder / "y4.npy", np.array([1.0, 0.5]))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture(scope="module")
def batched(single, tmp_path_factory) -> Project:
    """The same pairs and weights; observations and posteriors made by batches of three."""
    project = single.copied_to(tmp_path_factory.mktemp("batched") / "project")
    for name in MADE:
        shutil.rmtree(project.folder / "results/tiny" / name)
    project.write(configuration(3))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(BATCH) == 4 and "finetune tiny/" not in done.stdout
    return project


@pytest.fixture
def project(batched, tmp_path) -> Project:
    return batched.copied_to(tmp_path / "copy")


def files(project: Project) -> Iterator[Path]:
    """All results of observations, relative to the experiment."""
    tiny = project.folder / "results/tiny"
    for name in MADE:
        for path in sorted((tiny / name).rglob("*")):
            if path.is_file() and not {".batches", ".data_hashes"} & {*path.parts}:
                yield path.relative_to(tiny)


def times(project: Project) -> dict[Path, int]:
    tiny = project.folder / "results/tiny"
    return {file: (tiny / file).stat().st_mtime_ns for file in files(project)}


def metrics(project: Project, observation: str, method: str = "amortized") -> Path:
    return project.folder / f"results/tiny/posteriors/{observation}/{method}/seed-0/metrics.json"


def test_batches_make_the_results_of_single_jobs_to_the_bit(single, batched):
    assert list(files(single)) == list(files(batched))
    differing = [
        str(file)
        for file in files(single)
        if timeless(single.folder / "results/tiny" / file)
        != timeless(batched.folder / "results/tiny" / file)
    ]
    assert differing == []
    assert "Nothing to be done" in batched.snakemake("-n").stdout


def test_logs_and_times_of_each_observation_are_those_of_single_jobs(single, batched):
    for stage, name in (("sample", "y2/amortized/seed-0"), ("observe", "y2")):
        log, cost = f"logs/{stage}/{name}.log", f"benchmarks/{stage}/{name}.tsv"
        of_both = [project.folder / "results/tiny" for project in (single, batched)]
        assert len({(tiny / cost).read_text().splitlines()[0] for tiny in of_both}) == 1
        words = [shlex.split((tiny / log).read_text().splitlines()[0]) for tiny in of_both]
        a, b = (
            text[: text.index("--benchmark")] if "--benchmark" in text else text for text in words
        )
        assert sorted(a) == sorted(b) and a[:5] == b[:5]


def test_other_batches_find_their_results_made(project):
    before = times(project)
    project.write(configuration(2))
    done = project.snakemake()
    assert done.returncode == 0 and BATCH in done.stdout, done.stdout
    assert times(project) == before


def test_a_deleted_result_is_all_that_is_made_again(project):
    before = times(project)
    metrics(project, "y2").unlink()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    tiny = project.folder / "results/tiny"
    now = times(project)
    changed = {str(file) for file in now if now[file] != before[file]}
    own = metrics(project, "y2").relative_to(tiny).parent
    assert changed == {str(own / "metrics.json"), str(own / ".metrics.json.origin")}


def test_an_observation_that_fails_concerns_no_other(project):
    """A measured observation that is NaN, and a reference that was damaged."""
    tiny = project.folder / "results/tiny"
    np.save(project.folder / "y4.npy", np.array([np.nan, 0.5]))
    chunks = (tiny / "posteriors/y1/reference.zarr/posterior/x/c").rglob("*")
    chunk = next(path for path in chunks if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"damaged!!")
    for name in ("y1", "y2", "y3"):
        metrics(project, name).unlink()
    done = project.snakemake()
    assert done.returncode != 0
    said = done.stdout[done.stdout.index("What failed, and why:") :]
    assert "logs/observe/y4.log: error: y4.npy: `y` must be finite" in said
    assert "logs/evaluate/y1/amortized/seed-0.log: error: " in said and "reference.zarr" in said
    assert "4 of 8 runs are complete" in said  # of y2 and y3
    assert metrics(project, "y2").is_file() and metrics(project, "y3").is_file()
    before = times(project)
    shutil.rmtree(tiny / "posteriors/y1/reference.zarr")
    np.save(project.folder / "y4.npy", np.array([1.0, 0.5]))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    for file, written in times(project).items():  # evaluations quote the calibration at y4
        if file.name == "flow.safetensors" or "posterior.zarr" in file.parts:
            assert written == before.get(file, written), file
    assert "Nothing to be done" in project.snakemake("-n").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_batch_goes_on_where_it_was(project, number):
    """Killed in the training of its second observation, it does not train the first one again,
    and continues the second from its checkpoint.
    """
    wanted = configuration(3)
    longer = wanted["experiments"]["tiny"]["finetune"]["preconditioned"]
    longer |= {"evaluations": 6400, "batch": 8}
    project.write(wanted)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    tiny = project.folder / "results/tiny"
    expected = {file: timeless(tiny / file) for file in files(project)}
    for name in OBSERVATIONS[:3]:
        shutil.rmtree(tiny / "posteriors" / name / "preconditioned")
    first = (tiny / "logs/batches/preconditioned/seed-0/0.log").read_text().splitlines()[0]
    command = [sys.executable, *shlex.split(first.removeprefix("$ python"))]
    environment = os.environ | {"PFLOW_CHECKPOINT_SECONDS": "0.2", "PFLOW_JOB_SERVER": ""}
    process = subprocess.Popen(command, cwd=project.folder, env=environment)
    while not list((tiny / ".checkpoints/y2/preconditioned/seed-0").glob("state*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() in (128 + number, -number)
    made = metrics(project, "y1", "preconditioned").stat().st_mtime_ns
    subprocess.run(command, cwd=project.folder, env=environment, check=True)
    assert metrics(project, "y1", "preconditioned").stat().st_mtime_ns == made
    log = (tiny / "logs/finetune/y2/preconditioned/seed-0.log").read_text()
    assert "continues after step" in log
    assert {file: timeless(tiny / file) for file in files(project)} == expected


def test_status_counts_observations(batched):
    done = subprocess.run(
        [sys.executable, "-m", "pflow", "status"],
        cwd=batched.folder,
        env=batched.environment(),
        capture_output=True,
        text=True,
    )
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "8 done" in lines["finetune"] and "4 done" in lines["observe"], done.stdout


def test_what_a_batch_has_made_is_listed(batched):
    tiny = batched.folder / "results/tiny"
    said = json.loads((tiny / "posteriors/.batches/amortized/seed-0/batch-0.json").read_text())
    assert list(said["observations"]) == ["y1", "y2", "y3"] and said["failed"] == {}
    assert said["observations_per_job"] == 3


def many(count: int) -> dict:
    """So many observations of the amortised method, with the default number in a job."""
    wanted = configuration(1)
    tiny = wanted["experiments"]["tiny"]
    del tiny["resources"], tiny["finetune"]["preconditioned"]
    tiny["observations"] = {f"y{k:04d}": {"seed": k} for k in range(count)}
    return wanted


def test_1500_observations_are_a_few_jobs(tmp_path):
    project = Project(tmp_path / "project", many(1500))
    done = project.snakemake("-n", "--quiet", "rules")
    assert done.returncode == 0, done.stdout
    planned = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M))
    assert planned["run_batch"] == planned["observe_batch"] == planned["reference_batch"] == "8"
    assert not {"finetune_flow", "sample_posterior", "observe_data"} & planned.keys()


def test_60_observations_are_run_wholly(tmp_path):
    project = Project(tmp_path / "project", many(60))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert sum(metrics(project, f"y{k:04d}").is_file() for k in range(60)) == 60
    assert "60 observations" in (project.folder / "results/report.html").read_text()
    calibration = project.folder / "results/tiny/pretrained/coupling/calibration.json"
    assert len(json.loads(calibration.read_text())["observations"]) == 60
    assert "Nothing to be done" in project.snakemake("-n").stdout
