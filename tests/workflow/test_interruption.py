"""Killed at any moment of any stage, a job that runs again ends in the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.project import TINY, Project
from tests.support.timeless import timeless

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS_OF_EACH = int(os.environ.get("PFLOW_TEST_KILLS", "1"))  # of 13 stages
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
RUN = "posteriors/y1/preconditioned/seed-0"
# stage: log whose first line is the command, what it writes (from results/tiny). What shows the
# cost of a stage (the report)
# comes before that stage is made again.
STAGES = {
    "simulate": ("logs/simulate/train-0.log", "pairs/train/shard-0.zarr"),
    "observe": ("logs/observe/y1.log", "observations/y1.zarr"),
    "reference": ("logs/reference/y1.log", "posteriors/y1/reference.zarr"),
    "calibrate": ("logs/calibrate/coupling.log", "pretrained/coupling/calibration.json"),
    "calibrate_method": (
        "logs/calibrate_method/preconditioned.log",
        "calibration/preconditioned.json",
    ),
    "spectrum": ("../pictures/logs/spectrum.log", "../pictures/prior/spectrum.zarr"),
    "sample": ("logs/sample/y1/preconditioned/seed-0.log", f"{RUN}/posterior.zarr"),
    "evaluate": ("logs/evaluate/y1/preconditioned/seed-0.log", f"{RUN}/metrics.json"),
    "figures": ("logs/figures.log", "figures"),
    "report": ("../logs/report.log", "../report.html"),
    "check_operator": ("logs/check_operator.log", "operator.json"),
    "pretrain": ("logs/pretrain/coupling.log", "pretrained/coupling"),
    "finetune": ("logs/finetune/y1/preconditioned/seed-0.log", RUN),
}
PICTURES = {
    "title": "Images",
    "problem": {"name": "seismic", "height": 8, "width": 8},
    "simulate": {"train": 64},
    "observations": {"y1": {"seed": 1}},
}
CHECKPOINTS = {
    "pretrain": ".checkpoints/pretrained/coupling",
    "finetune": ".checkpoints/y1/preconditioned/seed-0",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """The tiny experiment with longer training, so that there is something to interrupt."""
    configuration = json.loads(json.dumps(TINY))
    tiny = configuration["experiments"]["tiny"]
    tiny["flows"] = {
        "coupling": {
            "name": "coupling",
            "depth": 4,
            "hidden": 16,
            "pretrain": {"epochs": 50, "patience": 0, "batch": 16},
        }
    }
    tiny["finetune"] = {
        "preconditioned": {
            "flow": "coupling",
            "start": "pretrained",
            "objective": "reverse_kl",
            "evaluations": 4800,
            "batch": 16,
        }
    }
    tiny["calibrate"] = {"fine_tuned": 2}
    tiny["simulate"] = {"train": 300, "validation": 100, "test": 100}
    project = Project(tmp_path_factory.mktemp("made") / "project", configuration)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    project.write(
        {"experiments": {"pictures": tiny | PICTURES | {"reference": {"kind": "gaussian"}}}}
    )
    done = project.snakemake("results/pictures/prior/spectrum.zarr/zarr.json")  # of images alone
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PFLOW_CHECKPOINT_SECONDS", "0.05")
    return tmp_path / "results/tiny"


def command(folder: Path, stage: str) -> list[str]:
    first = (folder / STAGES[stage][0]).read_text().splitlines()[0]
    return [sys.executable, *shlex.split(first.removeprefix("$ python"))]


def start(folder: Path, stage: str, log: Path) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(command(folder, stage), stdout=out, stderr=subprocess.STDOUT)


def finish(folder: Path, stage: str, log: Path) -> str:
    process = start(folder, stage, log)
    assert process.wait(timeout=300) == 0, log.read_text()
    return log.read_text()


def remove_outputs(folder: Path, stage: str) -> None:
    """As Snakemake does before it runs a job."""
    out = folder / STAGES[stage][1]
    for path in (
        [out / name for name in ("flow.safetensors", "flow.json", "history.csv")]
        if stage in ("pretrain", "finetune")
        else [out]
    ):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def content(folder: Path, stage: str) -> dict[str, str]:
    """Hash of every file that a stage writes, what a run cost left out."""
    out = folder / STAGES[stage][1]
    own = ("flow.safetensors", "flow.json", "history.csv")
    files = (
        [out / name for name in own]
        if stage in ("pretrain", "finetune")
        else [p for p in sorted(out.rglob("*")) if p.is_file()] or [out]
    )
    return {
        os.path.relpath(path, folder): hashlib.sha256(timeless(path)).hexdigest() for path in files
    }


def states(folder: Path, stage: str) -> int:
    """How many states the stage has saved."""
    return sum(
        (folder / CHECKPOINTS[stage] / name).exists()
        for name in ("state.safetensors", "state.safetensors.previous")
    )


def litter(folder: Path) -> list[Path]:
    return [p for p in folder.rglob(".*") if re.search(r"\.(partial|lock(\.\w+)?|failed)$", p.name)]


def cpu_seconds(process: subprocess.Popen) -> float:
    """What the process has computed so far: unlike the time of day, it does not know how busy the
    machine is.
    """
    used = psutil.Process(process.pid).cpu_times()
    return used.user + used.system


def until(process: subprocess.Popen, reached: Callable[[], bool]) -> bool:
    """Wait for a moment; False if the process ended before it."""
    while process.poll() is None:
        if reached():
            return True
        time.sleep(0.02)
    return False


def working_seconds(folder: Path, stage: str, log: Path) -> float:
    """CPU seconds of an uninterrupted run from its first line of log to its end, about."""
    process = start(folder, stage, log)
    begun = until(process, lambda: log.stat().st_size > 0) and cpu_seconds(process)
    seen = [begun]
    until(process, lambda: seen.append(cpu_seconds(process)))
    assert process.returncode == 0, log.read_text()
    return seen[-1] - begun


def kill_at(
    folder: Path,
    stage: str,
    log: Path,
    number: int,
    fraction: float,
    seconds: float,
    with_state: bool,
) -> bool:
    """Kill a run after a fraction of its work (and after its first checkpoint, if asked); False if
    it ended before.
    """
    process = start(folder, stage, log)
    alive = until(process, lambda: log.stat().st_size > 0)
    begun = cpu_seconds(process) if alive else 0.0
    alive = alive and until(process, lambda: cpu_seconds(process) - begun > fraction * seconds)
    if (alive and with_state and until(process, lambda: states(folder, stage) > 0)) or (
        alive and not with_state
    ):
        process.send_signal(number)
    process.wait(timeout=120)
    assert "Traceback" not in log.read_text(), log.read_text()
    return process.returncode != 0


def test_kills_at_random_moments_change_no_bit(folder, tmp_path):
    """Every stage is killed, with one of three signals, at a moment drawn from
    all of its work.
    """
    draw = random.Random(20261123)
    for stage in STAGES:
        expected = content(folder, stage)
        remove_outputs(folder, stage)
        seconds = working_seconds(folder, stage, tmp_path / "log")
        assert content(folder, stage) == expected, f"{stage}: a run without a kill differs"
        remove_outputs(folder, stage)
        kills, resumed = 0, False
        # A training that continues may end before its moment, and is then made anew.
        for _ in range(12 + KILLS_OF_EACH):
            with_state = stage in CHECKPOINTS and kills == KILLS_OF_EACH - 1
            kills += kill_at(
                folder,
                stage,
                tmp_path / "log",
                draw.choice(SIGNALS),
                draw.uniform(0, 0.95),
                seconds,
                with_state,
            )
            remove_outputs(folder, stage)
            resumed = resumed or (stage in CHECKPOINTS and states(folder, stage) > 0)
            if kills == KILLS_OF_EACH:
                break
        assert kills == KILLS_OF_EACH and resumed == (stage in CHECKPOINTS), (
            f"{stage}: killed {kills} times, with a state left behind: {resumed}"
        )
        finish(folder, stage, tmp_path / "log")
        assert content(folder, stage) == expected, f"{stage}: killed and run again, it differs"
        assert litter(folder) == []


def test_at_most_two_checkpoints_and_none_when_done(folder, tmp_path):
    remove_outputs(folder, "finetune")
    process = start(folder, "finetune", tmp_path / "log")
    most, where = 0, folder / CHECKPOINTS["finetune"]
    while process.poll() is None:
        most = max(
            most,
            len([p for p in os.listdir(where) if p.startswith("state")]) if where.exists() else 0,
        )
        time.sleep(0.01)
    assert process.returncode == 0 and most == 2
    assert states(folder, "finetune") == 0


def kill_with_a_checkpoint(folder: Path, stage: str, log: Path) -> None:
    remove_outputs(folder, stage)
    process = start(folder, stage, log)
    while states(folder, stage) < 2:
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_changed_settings_do_not_resume_the_old_state(folder, tmp_path, made):
    kill_with_a_checkpoint(folder, "finetune", tmp_path / "log")
    arguments = command(folder, "finetune")
    at = arguments.index("--settings") + 1
    arguments[at] = arguments[at].replace('"evaluations": 4800', '"evaluations": 320')
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / RUN / "flow.json").read_text())["steps"] == 20


def test_a_second_job_waits_for_the_first_and_does_not_repeat_it(folder, tmp_path):
    expected = content(folder, "finetune")
    remove_outputs(folder, "finetune")
    first = start(folder, "finetune", tmp_path / "first")
    while not (folder / CHECKPOINTS["finetune"] / ".state.safetensors.lock").exists():
        assert first.poll() is None, (tmp_path / "first").read_text()
        time.sleep(0.01)
    second = start(folder, "finetune", tmp_path / "second")
    assert first.wait(timeout=120) == 0 and second.wait(timeout=120) == 0
    printed = (tmp_path / "second").read_text()
    assert f"waiting for process {first.pid}" in printed and "nothing to do" in printed
    assert content(folder, "finetune") == expected


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, nearly full."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize(
    ("stage", "left"), [("simulate", 4096), ("pretrain", 4096), ("sample", 4096), ("simulate", 0)]
)
def test_a_full_disk_is_said_and_earlier_results_stay(
    made, small_disk, tmp_path, monkeypatch, stage, left
):
    shutil.copytree(made.folder / "results", small_disk / "results")
    monkeypatch.chdir(small_disk)
    folder = small_disk / "results/tiny"
    expected = {other: content(folder, other) for other in STAGES}
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(free - left))
    done = subprocess.run(command(folder, stage), capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"error: cannot write .*No space left on device", done.stderr), done.stderr
    assert {other: content(folder, other) for other in STAGES} == expected
    assert not [p for p in litter(folder) if p.suffix != ".failed"]
    (small_disk / "ballast").unlink()
    finish(folder, stage, tmp_path / "log")
    assert content(folder, stage) == expected[stage]
