"""pyproject.toml, envs/constraints.txt and envs/pflow.yaml name the same packages and versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    lines = (ROOT / "envs/constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_requirement_is_pinned_to_a_version_it_allows(project, pinned):
    everything = project["dependencies"] + [
        r for extra in project["optional-dependencies"].values() for r in extra
    ]
    for requirement in map(Requirement, everything):
        assert requirement.name in pinned, f"add {requirement.name} to envs/constraints.txt"
        assert requirement.specifier.contains(pinned[requirement.name]), str(requirement)


def test_conda_environment_has_the_same_packages_and_versions(project, pinned):
    conda = dict(
        re.fullmatch(r"([\w.-]+?)(?:[=>]=?([\w.,<]+))?", entry).groups()
        for entry in yaml.safe_load((ROOT / "envs/pflow.yaml").read_text())["dependencies"]
    )
    expected = {
        CONDA_NAMES.get(r.name, r.name): pinned[r.name]
        for r in map(Requirement, project["dependencies"])
    }
    assert {
        name: version for name, version in conda.items() if name not in ("python", "pip")
    } == expected
    assert project["requires-python"] == f">={conda['python']}"


def test_the_tested_environment_is_the_pinned_one(pinned):
    from importlib.metadata import version

    differing = {
        name: version(name)
        for name in ("torch", "numpy", "zarr", "xarray", "snakemake")
        if version(name).split("+")[0] != pinned[name]
    }
    assert not differing, "run the tests through `make test`"
