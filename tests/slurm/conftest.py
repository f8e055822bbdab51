"""A real SLURM for a module's tests; without root or the packages they are skipped, and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster.sh")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[None]:
    missing = [
        program
        for program in ("slurmctld", "slurmd", "munged", "sbatch")
        if not shutil.which(program)
    ]
    if os.geteuid() != 0:
        pytest.skip("a test cluster needs root")
    if missing:
        pytest.skip(
            f"a test cluster needs {', '.join(missing)}: `make test-slurm` installs them on Debian"
        )
    folder = tmp_path_factory.mktemp("cluster")
    try:
        done = subprocess.run(
            [SCRIPT, "start", folder], capture_output=True, text=True, timeout=120
        )
        if done.returncode == 3:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        yield
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=120)
