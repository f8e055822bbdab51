"""Mistakes in a user's operator, prior or data stop a run before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.project import Project

pytestmark = pytest.mark.slow

MODULE = '''
import torch
from pflow.operators import Operator
from pflow.problems import Problem


class Square(Operator):
    def __init__(self, sign):
        super().__init__(model_shape=(2,), data_shape=(2,))
        self.sign = sign

    def forward(self, x):
        return x + 0.1 * x.square()

    def vjp(self, x, v):
        return self.sign * (1 + 0.2 * x) * v


class Mine(Problem):
    """A problem with an optional mistake."""

    def __init__(self, sign: float = 1.0) -> None:
        """Arguments:
            sign: of the gradient.
        """
        operator = Square(sign)
        super().__init__(
            low_fidelity=operator, high_fidelity=operator, noise_std=0.1, parameter_names=("a", "b")
        )

    def sample_prior(self, n, generator=None, dtype=torch.float32):
        return torch.randn(n, 2, generator=generator).to(dtype)

    def log_prior(self, x):
        return -0.5 * x.square().sum(-1)
'''
SETTINGS = {
    "simulate": {"train": 64, "validation": 64, "test": 64, "high_fidelity": 0},
    "observations": {"y1": {"file": "measured.npy"}},
    "reference": {"kind": "none"},
    "flows": {"coupling": {"name": "coupling", "depth": 2, "hidden": 8, "pretrain": {"epochs": 1}}},
    "finetune": {"amortized": {"flow": "coupling", "objective": "none"}},
}
WEIGHTS = "results/mine/pretrained/coupling/flow.safetensors"


def project(folder: Path, y: list[float], **mistake: float) -> Project:
    problem = {"module": "mine.py", "name": "Mine", **mistake}
    made = Project(folder, {"experiments": {"mine": {"problem": problem, **SETTINGS}}})
    (folder / "mine.py").write_text(MODULE)
    np.save(folder / "measured.npy", np.array(y))
    return made


def dependencies(graph: str) -> set[tuple[str, str]]:
    """(a rule, a rule that waits for it), from Snakemake's graph of jobs in dot."""
    names = dict(re.findall(r'(\d+)\[label = "(\w+)', graph))
    return {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)}


def test_training_waits_for_the_operator_and_the_measured_data(tmp_path):
    planned = project(tmp_path / "project", [0.5, 0.5]).snakemake(WEIGHTS, "--dag")
    found = dependencies(planned.stdout)
    assert found >= {
        ("check_forward_operator", "pretrain_flow"),
        ("observe_data", "pretrain_flow"),
    }


def test_nothing_is_trained_after_a_mistake(tmp_path):
    wrong = project(tmp_path / "project", [0.5, float("nan")], sign=-1.0)
    done = wrong.snakemake("--keep-going", WEIGHTS)
    assert done.returncode != 0
    for message in ("the gradient has the opposite sign", "must be finite and has 1 NaN"):
        assert message in done.stdout, done.stdout
    assert not (wrong.folder / WEIGHTS).exists()
    assert not (wrong.folder / "results/mine/logs/pretrain").exists()


def test_the_images_of_a_file_are_counted_by_the_plan_and_not_by_its_jobs(tmp_path):
    images = {"images": "section.npy", "training_rows": [0, 24], "target_rows": [24, 40]}
    problem = {"name": "seismic", "height": 8, "width": 8, "stride": 8, **images}
    observations = {"y1": {"seed": 1}}
    experiment = SETTINGS | {"problem": problem, "observations": observations}
    made = Project(tmp_path, {"experiments": {"line": experiment}})
    np.save(tmp_path / "section.npy", np.random.default_rng(0).standard_normal((40, 100)))
    shard = "results/line/pairs/train/shard-0.zarr/zarr.json"
    plan = made.snakemake("-n", shard)
    assert plan.returncode == 1 and "draws 64 different train images in one job" in plan.stdout
    job = made.snakemake("-n", "--mode", "subprocess", "--allowed-rules", "simulate_shard", shard)
    assert job.returncode == 0 and "different train images" not in job.stdout
