"""A signal to the controller stops the whole tree of processes that it started, and is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

JOB = "import time; print('job', flush=True); time.sleep(60)"
SCHEDULER = f"""
import subprocess, sys
job = subprocess.Popen([sys.executable, "-c", {JOB!r}])
print("pid", job.pid, flush=True)
job.wait()
"""
CONTROLLER = textwrap.dedent(f"""
    import signal, sys
    from pflow.execution.controlled import run_controlled
    sys.exit(run_controlled([sys.executable, "-c", {SCHEDULER!r}]))
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_jobs_of_the_started_program(number):
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = [controller.stdout.readline() for _ in range(2)]
    job = int(next(line for line in lines if line.startswith("pid")).split()[1])
    controller.send_signal(number)
    _, errors = controller.communicate(timeout=30)
    assert controller.returncode == 128 + number
    assert f"interrupted ({number.name}): stopping the running jobs" in errors
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)


def test_without_a_signal_the_exit_status_is_that_of_the_program():
    program = "import sys; from pflow.execution.controlled import run_controlled as run;"
    program += " sys.exit(run([sys.executable, '-c', 'raise SystemExit(7)']))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
