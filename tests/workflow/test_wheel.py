"""A wheel brings all that pflow needs: with nothing else installed, and no clone in sight, a new
problem starts, and docs/tutorial.md works word by word.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]

Shell = Callable[[str], str]
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```$", re.M | re.S)
SMALLER = {
    "train: 2000, validation: 300, test: 300": "train: 300, validation: 100, test: 100",
    "epochs: 8": "epochs: 1",
    "evaluations: 64": "evaluations: 32",
    "draws: 1000": "draws: 200",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The `bin` folder of an environment that has nothing but the wheel.

    Its dependencies are those of the tests' environment, whose folder a .pth file names: torch is
    not downloaded again. An editable pflow there is not found, because .pth files are read in an
    environment's own folder alone.
    """
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("pflow-*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


@pytest.fixture
def shell(installed, tmp_path) -> Shell:
    """What commands print, in an empty folder of that environment; they must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{installed}:{os.environ['PATH']}"

    def run(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", commands],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        return done.stdout

    return run


def follow(page: str, folder: Path, shell: Shell) -> dict[str, str]:
    """Write what begins with `# FILE`, run what is bash; what each block printed."""
    printed = {}
    for language, text in BLOCK.findall(page):
        if language == "bash":
            printed[text.strip()] = shell(text)
        else:
            name = re.match(r"# (\S+\.(?:py|yaml))\n", text)
            assert name, (
                f"a block of {language} must begin with the name of its file: {text[:60]!r}"
            )
            (folder / name[1]).write_text(text)
    return printed


def test_the_tutorial_does_what_it_says(installed, shell, tmp_path):
    place = shell('python -c "import pflow; print(pflow.__file__, pflow.__version__)"')
    assert place.startswith(str(installed.parent)) and place.split()[1][0].isdigit()
    printed = follow((ROOT / "docs/tutorial.md").read_text(), tmp_path, shell)
    verdicts = {
        m: json.loads(
            (tmp_path / f"results/buried/posteriors/y1/{m}/seed-0/metrics.json").read_text()
        )["verdict"]
        for m in ("before", "after")
    }
    assert verdicts == {"before": "do not use", "after": "trustworthy"}
    status = printed["python -m pflow status buried.yaml"]
    assert "y1/after/seed-0" in status and "trustworthy" in status and "do not use" in status
    assert "report  done" in status and (tmp_path / "results/report.html").is_file()
    low, high = map(
        float, re.search(r"between \[(\S+)\s+(\S+)\]", printed["python use.py"]).groups()
    )
    assert low - 0.03 < 0.82 < high + 0.03  # exp(-0.2), the true depth
    plan = next(
        text for command, text in printed.items() if command.startswith("python measure.py")
    )
    assert "finetune_flow" in plan and "pretrain_flow" not in plan and "simulate_shard" not in plan
    assert not (ROOT / "buried.py").exists()


def test_a_new_problem_runs_as_it_is_written(shell, tmp_path):
    """As far as its own files reach: what follows fine-tuning is that of every problem."""
    assert "water_level.yaml" in shell("pflow new water_level")
    configuration = tmp_path / "water_level.yaml"
    text = configuration.read_text()
    for long, short in SMALLER.items():
        assert long in text
        text = text.replace(long, short)
    configuration.write_text(text)
    shell("pflow run water_level.yaml finetune --cores 2")
    assert "Nothing to be done" in shell("pflow run water_level.yaml finetune -n")
    assert "write_report" in shell("pflow run water_level.yaml -n")
