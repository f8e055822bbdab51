"""Snakemake, imported once: each command runs in a fork of that process.

A plan takes 2 seconds, of which importing Snakemake is more than half, and the tests ask for a
hundred plans. A fork is a process of its own, as a user's is: only Snakemake's modules are there
before it begins, none of pflow's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

TIMEOUT_SECONDS = 1200


class WarmSnakemake:
    """The process that imports Snakemake; it ends when its standard input is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess:
        """`snakemake ARGUMENTS` in a folder: exit status, and everything printed, in stdout."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r") as output:
            command = [arguments, str(folder), environment, output.name]
            print(json.dumps(command), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, output.read())

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    import snakemake.cli

    sys.path.pop(0)  # this folder
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(snakemake.cli.main, *json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(
    main: Callable[[list[str]], None],
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    output: str,
) -> NoReturn:
    """`python -m snakemake`, in the forked process."""
    signal.alarm(TIMEOUT_SECONDS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = ["snakemake", *arguments]
    status = 1
    try:
        main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
