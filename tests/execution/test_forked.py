"""Calls in forked processes run at the same time, and the end of a process is told."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from pflow.errors import PflowError
from pflow.execution.forked import ForkedCalls


def test_calls_run_at_the_same_time_in_other_processes():
    both = get_context("fork").Barrier(2)  # either call alone would wait in vain

    def work(number: int) -> tuple[int, int]:
        both.wait(timeout=30)
        return 2 * number, os.getpid()

    with ForkedCalls(work, 2) as calls, ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(calls, [1, 2]))
    assert [answer for answer, _ in answers] == [2, 4]
    assert len({os.getpid(), *(process for _, process in answers)}) == 3


def test_a_process_that_dies_is_told():
    with ForkedCalls(lambda status: os._exit(status), 1) as calls:
        with pytest.raises(PflowError, match="died"):
            calls(9)
        with pytest.raises(PflowError, match="died"):
            calls(9)


def test_the_processes_end_with_their_parent():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with ForkedCalls(lambda _: os.getpid(), 1) as calls:
            os.write(writer, str(calls(None)).encode())
            time.sleep(60)
        os._exit(0)
    worker = int(os.read(reader, 20))
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    end = time.monotonic() + 20
    while time.monotonic() < end and os.path.exists(f"/proc/{worker}"):
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}")
