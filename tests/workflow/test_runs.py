"""Methods and references at some observations only: exactly these results are made and shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pflow.pipeline.status import status
from tests.support.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_only_the_runs_that_are_wanted_are_made_and_shown(tiny, tmp_path, monkeypatch):
    experiment = tiny["experiments"]["tiny"]
    experiment["observations"] = {"survey-1": {"seed": 1}, "survey-2": {"seed": 2}}
    experiment["reference"]["only"] = ["survey-2"]
    del experiment["flows"]["chint"], experiment["finetune"]["seed_paper_scratch"]
    experiment["finetune"]["preconditioned"] |= {"except": ["*-1"], "seeds": [0, 1]}
    project = Project(tmp_path / "project", tiny)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    results = project.folder / "results/tiny"
    made = sorted(
        path.parent.relative_to(results / "posteriors").as_posix()
        for path in (results / "posteriors").rglob("metrics.json")
    )
    assert made == [
        "survey-1/amortized/seed-0",
        "survey-2/amortized/seed-0",
        "survey-2/preconditioned/seed-0",
        "survey-2/preconditioned/seed-1",
    ]
    assert [p.parent.name for p in results.rglob("reference.zarr")] == ["survey-2"]
    page = (project.folder / "results/report.html").read_text()
    words = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "have not finished" not in words and "median of 2 seeds" in words
    assert "survey-2 preconditioned" in words and "survey-1 preconditioned" not in words
    monkeypatch.chdir(project.folder)
    assert "missing" not in status(Path())
    assert "Nothing to be done" in project.snakemake().stdout
