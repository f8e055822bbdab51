"""A user's code and data files in the plan: a change reruns what depends on it and nothing else.

Plans are real; the jobs before them are not: a stand-in for `python` writes their outputs, since
only names, times and contents count.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.project import Project, cpu_seconds_of_children

pytestmark = pytest.mark.slow

STAND_IN = """#!/bin/bash
stage=$3
while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done
case $stage in
  pretrain|finetune) files="$out/flow.safetensors $out/flow.json $out/history.csv" ;;
  calibrate) files="$out ${out%.json}.zarr/zarr.json" ;;
  figures) files="$out/index.json $out/calibration.svg $out/pretraining.svg" ;;
  *) files="$out" ;;
esac
for file in $files; do mkdir -p "$(dirname "$file")"; echo "$file $RANDOM" > "$file"; done
"""
MODULE = """
from pflow.problems import Problem
from mine_helper import constant


class Mine(Problem):
    def __init__(self, noise_std: float = 0.1):
        pass
"""
FLOWS = {"c": {"name": "coupling"}}
FINETUNE = {"a": {"flow": "c", "objective": "none"}}
CONFIGURATION = {
    "experiments": {
        "own": {
            "problem": {"module": "mine.py", "name": "Mine"},
            "simulate": {"train": 100, "validation": 100, "test": 100},
            "observations": {"shots": "data/shot*.npy"},
            "reference": {"kind": "none"},
            "flows": FLOWS,
            "finetune": FINETUNE,
            "seeds": [0],
        },
        "survey": {
            "pairs": "data/pairs.npz",
            "observations": {"y1": "data/y1.npy"},
            "flows": FLOWS,
            "finetune": FINETUNE,
            "seeds": [0],
        },
    }
}


def runs(
    experiment: str,
    *observations: str,
    stages: tuple[str, ...] = ("finetune", "sample", "evaluate"),
) -> set[str]:
    return {f"{stage} {experiment}/{o}: a, seed 0" for o in observations for stage in stages}


def learnt(experiment: str) -> set[str]:
    parts = {
        f"simulate {experiment}: {split} pairs, shard 0"
        for split in ("train", "validation", "test")
    }
    return parts | {f"pretrain {experiment}: flow c", f"calibrate {experiment}: flow c"}


def shown(experiment: str) -> set[str]:
    return {f"figures of {experiment}", "report"}


SHOTS = ("shots-shot1", "shots-shot2")
OWN = (
    learnt("own")
    | {f"observe own: {o}" for o in SHOTS}
    | {"check the operator of own"}
    | runs("own", *SHOTS)
    | shown("own")
)
SURVEY = learnt("survey") | runs("survey", "y1") | shown("survey")


class OutsideProject(Project):
    def environment(self) -> dict[str, str]:
        environment = super().environment()
        return environment | {"PATH": f"{self.folder / 'bin'}:{environment['PATH']}"}

    def planned(self) -> set[str]:
        done = self.snakemake("-n")
        assert done.returncode == 0, done.stdout
        return set(re.findall(r"^Job \d+: (?!all )(.*)$", done.stdout, re.M))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> OutsideProject:
    folder = tmp_path_factory.mktemp("outside") / "project"
    project = OutsideProject(folder, CONFIGURATION)
    (folder / "bin").mkdir(), (folder / "data").mkdir()
    (folder / "bin/python").write_text(STAND_IN)
    (folder / "bin/python").chmod(0o755)
    (folder / "mine.py").write_text(MODULE)
    (folder / "mine_helper.py").write_text("constant = 1\n")
    for name, array in (("shot1", np.zeros(2)), ("shot2", np.ones(2)), ("y1", np.zeros(3))):
        np.save(folder / f"data/{name}.npy", array)
    random = np.random.default_rng(0)
    np.savez(
        folder / "data/pairs.npz", x=random.normal(size=(600, 2)), y=random.normal(size=(600, 3))
    )
    assert project.planned() >= OWN | (SURVEY - shown("survey")) | {"observe survey: y1"}
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project


def rewritten(path: Path, content: bytes | str) -> None:
    """New content with a new time, as an editor leaves it."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (time.time() + 2, time.time() + 2))


CHANGES = {
    "a comment in the user's file": ("mine.py", lambda old: old + b"# a remark\n", set()),
    "a line of the user's file": ("mine.py", lambda old: old.replace(b"0.1", b"0.2"), OWN),
    "a line of a module beside it": ("mine_helper.py", lambda old: b"constant = 2\n", OWN),
    "the pairs": ("data/pairs.npz", lambda old: _other_pairs(), SURVEY),
    "one measured observation": (
        "data/shot1.npy",
        lambda old: old[:-1] + b"\x40",
        {"observe own: shots-shot1", "calibrate own: flow c"}
        | runs("own", "shots-shot1")
        | runs("own", "shots-shot2", stages=("evaluate",))
        | shown("own"),
    ),
    "a measured observation, written again with the same content": (
        "data/y1.npy",
        lambda old: old,
        set(),
    ),
}


def _other_pairs() -> bytes:
    import io

    random, buffer = np.random.default_rng(1), io.BytesIO()
    np.savez(buffer, x=random.normal(size=(600, 2)), y=random.normal(size=(600, 3)))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_file_of_the_user_reruns_exactly(project, kind):
    name, change, expected = CHANGES[kind]
    path = project.folder / name
    before, times = path.read_bytes(), (path.stat().st_atime, path.stat().st_mtime)
    rewritten(path, change(before))
    try:
        assert project.planned() == expected
    finally:
        path.write_bytes(before)
        os.utime(path, times)


def test_a_new_file_of_a_glob_is_a_new_observation_that_shares_the_pretraining(project):
    np.save(project.folder / "data/shot3.npy", np.zeros(2))
    try:
        jobs = project.planned()
    finally:
        (project.folder / "data/shot3.npy").unlink()
    expected = (
        {"observe own: shots-shot3", "calibrate own: flow c"}
        | runs("own", "shots-shot3")
        | runs("own", *SHOTS, stages=("evaluate",))
        | shown("own")
    )
    assert jobs == expected


def test_a_misspelt_setting_of_the_users_class_stops_before_anything_runs(project, tmp_path):
    wrong = {
        "experiments": {
            **CONFIGURATION["experiments"],
            "own": (
                CONFIGURATION["experiments"]["own"]
                | {"problem": {"module": "mine.py", "name": "Mine", "noise_sdt": 1}}
            ),
        }
    }
    project.write(wrong)
    began = cpu_seconds_of_children()
    done = project.snakemake(env={})
    project.write(CONFIGURATION)
    assert cpu_seconds_of_children() - began < 5, "2.5 is Snakemake's own start"
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert (
        "`experiments.own.problem.noise_sdt` is not a setting: did you mean `noise_std`?"
        in done.stdout
    )
