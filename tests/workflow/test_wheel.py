"""A wheel brings all that the pipeline needs: no clone is there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]

SMALLER = {
    "train: 2000, validation: 300, test: 300": "train: 300, validation: 100, test: 100",
    "epochs: 8": "epochs: 1",
    "evaluations: 64": "evaluations: 32",
    "draws: 1000": "draws: 200",
}


@pytest.fixture
def installed(tmp_path) -> Path:
    """The `bin` folder of an environment that has nothing but the wheel.

    Its dependencies are those of the tests' environment, whose folder a .pth file names: torch is
    not downloaded again. An editable pflow there is not found, because .pth files are read in an
    environment's own folder alone.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = tmp_path.glob("pflow-*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def test_a_wheel_runs_a_new_problem_in_an_empty_folder(installed, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{installed}:{os.environ['PATH']}"

    def printed(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    place = printed("python", "-c", "import pflow; print(pflow.__file__, pflow.__version__)")
    assert place.startswith(str(installed.parent)) and place.split()[1][0].isdigit()
    assert "water_level.yaml" in printed("pflow", "new", "water_level")
    configuration = folder / "water_level.yaml"
    text = configuration.read_text()
    for long, short in SMALLER.items():
        assert long in text
        text = text.replace(long, short)
    configuration.write_text(text)
    printed("pflow", "run", "water_level.yaml", "--cores", "2")
    assert (folder / "results" / "report.html").is_file()
    assert "report  done" in printed("pflow", "status", "water_level.yaml")
    assert "Nothing to be done" in printed("pflow", "run", "water_level.yaml", "-n")
