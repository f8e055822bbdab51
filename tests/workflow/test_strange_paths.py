"""Paths with spaces, quotes, `$()`, semicolons and letters beyond ASCII: the pipeline runs in them,
reads from them and writes to them, and no shell executes a part of them.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.project import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.long]

STRANGE = """a 'b' "c" $(touch executed) ;touch executed;# \u00fc"""


@pytest.fixture
def small(tiny) -> dict:
    """One flow, a method without and one with fine-tuning, and one shard of each split."""
    e = tiny["experiments"]["tiny"]
    del e["flows"]["chint"], e["finetune"]["seed_paper_scratch"]
    del e["simulate"]["shard_size"], e["simulate"]["high_fidelity"]
    return tiny


def run(project: Project) -> None:
    done = project.snakemake(env={"PYTHONPATH": str(ROOT)})
    logs = [
        file.read_text() for file in project.folder.rglob("*.log") if ".snakemake" not in str(file)
    ]
    assert done.returncode == 0, "\n".join((done.stdout, *logs))
    executed = [*project.folder.parent.rglob("executed")]
    assert not executed, "a shell has read a path as a command"


def test_results_data_and_module_in_strange_folders(tmp_path, small):
    folder = tmp_path / f"clone {STRANGE}"
    data, code = folder / f"data {STRANGE}", folder / f"code {{x}} {STRANGE}"
    data.mkdir(parents=True)
    code.mkdir()
    np.save(data / "measured.npy", np.array([1.0, 0.5]))
    module = code / "my problem.py"
    module.write_text(
        "from pflow.problems.rosenbrock import Rosenbrock\n\n\nclass Mine(Rosenbrock):\n    pass\n"
    )
    e = small["experiments"]["tiny"]
    e["problem"] = {"module": os.path.relpath(module, folder), "name": "Mine", "noise_std": 0.4}
    e["reference"] = {"kind": "none"}
    e["observations"] = {"y2": {"file": os.path.relpath(data / "measured.npy", folder)}}
    small["results"] = f"results {STRANGE}"
    project = Project(folder, small)
    run(project)
    assert (folder / small["results"] / "report.html").is_file()
    assert "Nothing to be done" in project.snakemake("-n").stdout


def test_data_in_a_folder_with_braces_are_refused(project, tiny):
    data = project.folder / "{x}"
    data.mkdir()
    np.save(data / "measured.npy", np.array([1.0, 0.5]))
    tiny["experiments"]["tiny"]["observations"]["y2"] = {"file": "{x}/measured.npy"}
    project.write(tiny)
    done = project.snakemake("-n")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert (
        "`experiments.tiny.observations.y2.file` (={x}/measured.npy) must have no braces"
        in done.stdout
    )
