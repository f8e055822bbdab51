"""A job runs the code that it was planned with, or refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import pflow
from pflow.errors import PflowError
from pflow.provenance import modules
from pflow.provenance.code import code_fingerprint, forget_code
from pflow.provenance.planned import VARIABLE, load_planned_code, planned_code

SETTINGS = json.dumps({"experiment": "tiny"})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A copy of the package to edit, and no plan."""
    shutil.copytree(Path(pflow.__file__).parent, tmp_path / "pflow")
    monkeypatch.setattr(modules, "ROOT", tmp_path / "pflow")
    monkeypatch.setenv(VARIABLE, "{}")
    forget_code()
    yield tmp_path / "pflow"
    forget_code()


def edit(root: Path, file: str) -> None:
    path = root / file
    path.write_text(path.read_text() + "\nprint('imported')\n")
    forget_code()


def test_the_planned_code_is_accepted(root):
    assert planned_code("spectrum", SETTINGS) == code_fingerprint("spectrum", SETTINGS)
    load_planned_code("spectrum", SETTINGS)


def test_edited_code_is_refused_with_the_way_out(root):
    planned = planned_code("spectrum", SETTINGS)
    edit(root, "stages/spectrum.py")
    with pytest.raises(PflowError, match=rf"changed after .* planned \(code {planned}, now .*run"):
        load_planned_code("spectrum", SETTINGS)


def test_code_edited_while_it_is_imported_is_refused(root, monkeypatch):
    """Either of the two texts may have been imported."""
    planned_code("spectrum", SETTINGS)
    monkeypatch.setattr(
        "pflow.provenance.planned.importlib.import_module",
        lambda name: edit(root, "stages/spectrum.py"),
    )
    with pytest.raises(PflowError, match="changed after"):
        load_planned_code("spectrum", SETTINGS)


def test_an_edit_that_the_job_does_not_reach_is_accepted(root):
    planned_code("spectrum", SETTINGS)
    edit(root, "report/page.py")
    load_planned_code("spectrum", SETTINGS)


def test_a_batch_job_that_plans_again_keeps_the_plan_of_its_controller(root):
    planned = planned_code("spectrum", SETTINGS)
    edit(root, "stages/spectrum.py")
    assert planned_code("spectrum", SETTINGS) == planned
    assert code_fingerprint("spectrum", SETTINGS) != planned


def test_a_stage_that_a_person_starts_runs_the_code_that_is_there(root):
    assert json.loads(os.environ[VARIABLE]) == {}
    edit(root, "stages/spectrum.py")
    load_planned_code("spectrum", SETTINGS)
