"""A job starts no more threads than its `--threads`, whatever the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from pflow.execution.threads import VARIABLES

PROGRAM = textwrap.dedent("""
    import os, sys
    import pflow.cli as cli
    libraries = {"numpy", "torch", "zarr"}
    def job(stage, options):
        assert not libraries & set(sys.modules), "imported before the environment was set"
        import numpy, torch
        matrix = numpy.ones((400, 400))
        matrix @ matrix, torch.ones(400, 400) @ torch.ones(400, 400)
        print(len(os.listdir("/proc/self/task")), torch.get_num_threads())
    cli.run_stage = job
    sys.exit(cli.main(["observe", "--settings", "{}", "--out", "x", "--threads", sys.argv[1]]))
""")


def threads(number: int, environment: dict[str, str]) -> tuple[int, int]:
    """(threads of the process, threads that torch uses) of a job with `--threads number`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(number)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.splitlines()[-1].split()))


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_libraries_start_the_threads_of_the_job():
    unset = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    assert threads(1, unset) == (1, 1)
    assert threads(1, {**unset, "OMP_NUM_THREADS": "2"}) == (1, 1)
    started, of_torch = threads(2, {**unset, "OMP_NUM_THREADS": "1"})
    assert of_torch == 2 and started > 1
