"""The fingerprint follows what code does: edits change it, comments and docstrings do not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pflow
from pflow.config.experiment import STAGES
from pflow.provenance import code as fingerprint

PACKAGE = Path(pflow.__file__).parent


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package that the fingerprint reads, to edit at will."""
    root = tmp_path / "pflow"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", root)

    def prints() -> dict[str, str]:
        fingerprint._facts.cache_clear(), fingerprint._known.cache_clear()
        return {stage: fingerprint.code_fingerprint(stage) for stage in STAGES}

    yield root, prints
    fingerprint._facts.cache_clear(), fingerprint._known.cache_clear()


def changed_stages(copied, module: str, edit) -> set[str]:
    root, prints = copied
    before = prints()
    path = root / module
    path.write_text(edit(path.read_text()))
    after = prints()
    return {stage for stage in STAGES if before[stage] != after[stage]}


def test_comments_and_docstrings_change_nothing(copied):
    def edit(text: str) -> str:
        return text.replace('"""One loop', '"""Another wording of one loop', 1) + "\n# a remark\n"

    assert changed_stages(copied, "training.py", edit) == set()


def test_an_edit_of_the_training_loop_retrains_and_nothing_else(copied):
    assert changed_stages(copied, "training.py", lambda text: text + "\nx = 1\n") == {
        "pretrain",
        "finetune",
    }


def test_an_edit_of_the_report_reruns_the_report_alone(copied):
    assert changed_stages(copied, "report/page.py", lambda text: text + "\nx = 1\n") == {"report"}


def test_flows_do_not_invalidate_data(copied):
    changed = changed_stages(copied, "flows/coupling.py", lambda text: text + "\nx = 1\n")
    assert {"pretrain", "finetune", "sample"} <= changed
    assert not changed & {"simulate", "observe", "check_operator", "reference", "report"}


def test_reverting_an_edit_reverts_the_fingerprint(copied):
    root, prints = copied
    before, path = prints(), root / "problems" / "gaussian.py"
    text = path.read_text()
    path.write_text(text + "\nx = 1\n")
    assert prints() != before
    path.write_text(text)
    assert prints() == before


def test_neither_torch_nor_matplotlib_is_imported_to_plan():
    code = (
        "import sys, pflow.pipeline.workflow, pflow.cli; "
        "print([m for m in ('torch', 'matplotlib', 'xarray', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_found_is_kept_and_a_plan_without_it_is_the_same(copied):
    root, prints = copied
    first = prints()
    (kept,) = (root / "__pycache__").glob("fingerprint.*.json")
    assert prints() == first
    kept.write_text("{ damaged")
    assert prints() == first


def test_a_second_look_parses_nothing(copied, monkeypatch):
    _, prints = copied
    first = prints()
    monkeypatch.setattr(fingerprint.ast, "parse", lambda *_, **__: pytest.fail("parsed again"))
    assert prints() == first
