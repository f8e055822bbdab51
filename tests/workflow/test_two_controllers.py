"""Two controllers over one folder of results, each killed at random moments, end in the bits of an
uninterrupted run; jobs that a killed controller leaves behind go on, and hold their locks.
"""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import TINY, Project
from tests.support.timeless import timeless

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS = int(os.environ.get("PFLOW_TEST_KILLS", "3"))
LEFT_OUT = {"logs", "benchmarks", "evaluations.zarr", ".hashes.json"}  # the last one is a cache
TARGET = "tiny/posteriors/y1/preconditioned/seed-0/flow.safetensors"


def project_of(folder: Path, results: Path) -> Project:
    """A working folder of its own, with two trainings to interrupt, whose results are shared."""
    configuration = copy.deepcopy(TINY) | {"results": str(results)}
    tiny = configuration["experiments"]["tiny"]
    tiny["simulate"]["shard_size"] = 300
    tiny["flows"] = {"coupling": tiny["flows"]["coupling"]}
    tiny["flows"]["coupling"]["pretrain"] = {"epochs": 30, "patience": 0, "batch": 16}
    tiny["finetune"] = {"preconditioned": tiny["finetune"]["preconditioned"]}
    tiny["finetune"]["preconditioned"]["evaluations"] = 1920
    return Project(folder, configuration)


def start(project: Project, target: Path) -> subprocess.Popen:
    """A controller in a session of its own, which its jobs share."""
    environment = {**os.environ, "PFLOW_CHECKPOINT_SECONDS": "0.05"}
    with (project.folder / "controller.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", str(target)],
            cwd=project.folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def contents(results: Path) -> dict[str, bytes]:
    """Everything that was made, hidden files too, without logs and measurements of time."""
    return {
        str(path.relative_to(results)): timeless(path)
        for path in sorted(results.rglob("*"))
        if path.is_file() and not LEFT_OUT & set(path.parts)
    }


def test_random_kills_of_two_controllers_change_no_bit(tmp_path):
    alone = project_of(tmp_path / "alone", tmp_path / "expected")
    assert alone.snakemake(str(tmp_path / "expected" / TARGET)).returncode == 0
    shared, draw = tmp_path / "shared", random.Random(7)
    projects = [project_of(tmp_path / name, shared) for name in ("first", "second")]
    controllers = [start(project, shared / TARGET) for project in projects]
    sessions = [controller.pid for controller in controllers]
    try:
        for _ in range(KILLS):
            time.sleep(draw.uniform(1, 5))
            which = draw.randrange(2)
            controllers[which].kill()
            controllers[which].wait()
            controllers[which] = start(projects[which], shared / TARGET)
            sessions.append(controllers[which].pid)
        for controller in controllers:
            controller.wait(timeout=300)
        last = start(projects[0], shared / TARGET)
        sessions.append(last.pid)
        assert last.wait(timeout=300) == 0, (projects[0].folder / "controller.log").read_text()
    finally:
        for session in sessions:
            try:
                os.killpg(session, signal.SIGKILL)
            except ProcessLookupError:
                continue
    for project in projects:
        assert "Traceback" not in (project.folder / "controller.log").read_text()
    assert contents(shared) == contents(tmp_path / "expected")
