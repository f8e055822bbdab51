"""`python -m pflow`, and the command `pflow`."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line and leave with its exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)

    from pflow.execution.job_request import run_by_server

    status = run_by_server(sys.argv[1:])
    if status is not None:
        sys.exit(status)

    from pflow.cli import main

    status = main()
    if status > 128:
        # A signal: at an ordinary exit, interrupted asyncio tasks of Zarr would print tracebacks.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _leave(number: int, frame: object) -> None:
    """A signal while modules are still being imported."""
    os.write(2, b"interrupted: nothing had begun\n")
    os._exit(128 + number)


if __name__ == "__main__":
    run()
