"""Projects with the tiny experiment, as fixtures."""

from __future__ import annotations

import copy

import pytest

from tests.support.project import TINY, Project


@pytest.fixture
def tiny() -> dict:
    return copy.deepcopy(TINY)


@pytest.fixture
def project(tmp_path, tiny) -> Project:
    return Project(tmp_path / "project", tiny)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """The tiny experiment, run to the end once for the tests of a module."""
    project = Project(tmp_path_factory.mktemp("finished") / "project", copy.deepcopy(TINY))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project
