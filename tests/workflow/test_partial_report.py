"""Where one method fails, the others get their report, and nothing says that the old one is new."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pflow.pipeline.status import status
from tests.support.project import Project

pytestmark = pytest.mark.slow


def last_line(project: Project, monkeypatch) -> str:
    monkeypatch.chdir(project.folder)
    return next(line for line in status(Path()).splitlines() if line.startswith("report"))


def test_a_method_that_fails_leaves_the_report_of_the_others(finished, tiny, tmp_path, monkeypatch):
    project = object.__new__(Project)
    project.folder = tmp_path / "project"
    shutil.copytree(finished.folder, project.folder)
    assert last_line(project, monkeypatch).startswith("report  done")
    tiny["experiments"]["tiny"]["finetune"]["preconditioned"]["learning_rate"] = 1e30
    project.write(tiny)
    done = project.snakemake("--keep-going")
    page = project.folder / "results/partial_report.html"
    assert (
        done.returncode != 0
        and "2 of 3 runs are complete: results/partial_report.html" in done.stdout
    )
    text = page.read_text()
    assert "This page is partial" in text and "1 of 3 runs have not finished" in text
    assert re.search(r"logs/\w+/y1/preconditioned/seed-0\.log: \w", text), "why it failed"
    state = last_line(project, monkeypatch)
    assert state.startswith("report  old: a run has failed") and "partial_report.html" in state
    tiny["experiments"]["tiny"]["finetune"].pop("preconditioned")
    project.write(tiny)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert not page.exists() and last_line(project, monkeypatch).startswith("report  done")
