"""Programs as operators: files are exchanged, failures say why, no process is left running."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators.adapters import ProgramOperator
from tests.support.draws import draws


@pytest.fixture
def program(tmp_path):
    def write(code: str, arguments: str = "{x} {y}", **settings):
        script = tmp_path / "a program.py"
        script.write_text("import sys, time\n" + textwrap.dedent(code))
        command = f"'{sys.executable}' '{script}' {arguments}"
        return ProgramOperator(command, (3,), (3,), **settings)

    return write


CUBE = """
import numpy
model, *rest = sys.argv[1:]
x = numpy.load(model)
if len(rest) == 1:
    numpy.save(rest[0], x**3)
else:
    numpy.save(rest[1], 3 * x**2 * numpy.load(rest[0]))
"""


def test_programs_run_through_files(program, tmp_path):
    operator = program(CUBE, processes=2)
    operator.gradient_command, operator.differentiable = (
        operator.command.replace("{y}", "{v} {g}"),
        True,
    )
    x = draws(3, 3).requires_grad_()
    y = operator(x)
    torch.testing.assert_close(y, x**3)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], 3 * x.detach() ** 2)
    assert operator(x.float().detach()).dtype == torch.float32


FAILURES = {
    "exit status": (
        "print('reading the model'); sys.exit('no mesh')",
        {},
        "failed with exit status 1; its last words:\nreading the model\nno mesh",
    ),
    "says nothing": ("sys.exit(3)", {}, r"exit status 3; its last words:\n\(it said nothing\)"),
    "timeout": (
        "print('step 1', flush=True); time.sleep(60)",
        {"timeout_s": 0.8},
        r"must end within `timeout_s` \(=0.8\) seconds, and did not.*\nstep 1",
    ),
    "writes nothing": ("pass", {}, r"must write y.npy, and it cannot be read"),
    "wrong shape": (
        "import numpy; numpy.save(sys.argv[2], numpy.ones(4))",
        {},
        r"must write real numbers of shape \(3,\), and wrote float64 of shape \(4,\)",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failing_programs_say_why(program, kind):
    code, settings, message = FAILURES[kind]
    with pytest.raises(PflowError, match=message):
        program(code, **settings)(draws(1, 3))


def test_programs_without_gradient_or_files_or_existence(program):
    with pytest.raises(
        PflowError, match="has no gradient, and one was asked for: give `gradient_command`"
    ):
        program(CUBE).vjp(draws(1, 3), draws(1, 3))
    with pytest.raises(
        PflowError,
        match=r"`command` \(='solve'\) must name its files, and has no \{x\} and no \{y\}",
    ):
        ProgramOperator("solve", (3,), (3,))
    with pytest.raises(
        PflowError, match="cannot be started .No such file or directory.: give the path"
    ):
        ProgramOperator("no-such-program {x} {y}", (3,), (3,))(draws(1, 3))
    with pytest.raises(PflowError, match=r"`processes` \(=0\) must be at least 1"):
        ProgramOperator("solve {x} {y}", (3,), (3,), processes=0)


@pytest.fixture
def keyboard_interrupts():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell, which
    ignores it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_ends_the_programs(program, tmp_path, keyboard_interrupts):
    operator = program(
        f"open({str(tmp_path / 'started')!r}, 'w').close(); time.sleep(60)", processes=2
    )

    def interrupt():
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        operator(draws(4, 3))
    assert time.monotonic() - began < 20
