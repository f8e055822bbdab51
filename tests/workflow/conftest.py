"""Projects with the tiny experiment, as fixtures."""

from __future__ import annotations

import copy
import os

import pytest
from filelock import FileLock

from tests.support.project import TINY, Project


@pytest.fixture
def tiny() -> dict:
    return copy.deepcopy(TINY)


@pytest.fixture
def project(tmp_path, tiny) -> Project:
    return Project(tmp_path / "project", tiny)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The tiny experiment, run to the end once for all tests, whatever process they run in. Tests
    change copies of it.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder of all workers
        shared = shared.parent
    folder, done = shared / "finished/project", shared / "finished.done"
    with FileLock(shared / "finished.lock"):
        if done.exists():
            return Project.at(folder)
        project = Project(folder, copy.deepcopy(TINY))
        result = project.snakemake()
        assert result.returncode == 0, result.stdout
        done.touch()
    return project


@pytest.fixture
def finished_copy(finished, tmp_path) -> Project:
    """A copy to change: results with their times, and what Snakemake remembers of them."""
    return finished.copied_to(tmp_path / "copy")
