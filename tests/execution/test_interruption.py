"""A signal ends the command in one line, wherever it strikes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pflow.execution.interruption import Interrupted, StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_when_an_import_turns_it_into_another_error(number):
    with StopSignals() as signals, pytest.raises(ImportError):  # noqa: PT012, raised by a signal
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except Interrupted as stop:
            raise ImportError(
                "initialization failed"
            ) from stop  # what CPython does for a C extension
    assert signals.received == number


def test_a_signal_that_a_finaliser_swallows_is_raised_again():
    class Finalised:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with StopSignals() as signals:
        with pytest.raises(Interrupted):  # noqa: PT012, the signal comes during one of the two
            Finalised()
            time.sleep(1)
        assert signals.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_command_line_says_one_line_for_an_import_error_that_a_signal_caused(tmp_path):
    program = textwrap.dedent("""
        import os, signal, sys, time
        import pflow.cli as cli
        def broken(stage, options):
            try:
                os.kill(os.getpid(), signal.SIGINT); time.sleep(1)
            except BaseException as stop:
                raise ImportError("initialization failed") from stop
        cli.run_stage = broken
        sys.exit(cli.main(["observe", "--settings", "{}", "--out", "x"]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted: nothing was left half-written; run again\n"
