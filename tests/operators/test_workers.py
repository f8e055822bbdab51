"""Operators in worker processes: the same results, plain errors, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Operator, check_operator
from pflow.operators.workers import Workers

pytestmark = pytest.mark.slow


class Waves(Operator):
    """sin of sums over three sources, one process's number beside; breaks where told."""

    sources = 3

    def __init__(self) -> None:
        super().__init__((4,), (3, 5))
        self.weights = torch.randn(
            3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_sources(x, torch.arange(3).expand(len(x), -1))

    def forward_sources(self, x: Tensor, sources: Tensor) -> Tensor:
        if (x > 50).any():
            raise ZeroDivisionError("the wave broke")
        if (x > 40).any():
            raise PflowError("`x` must stay below 40: calm it")
        if (x > 30).any():
            os._exit(7)
        return torch.sin((self.weights.to(x)[sources] @ x[:, None, :, None])[..., 0])


def models(n, dtype=torch.float64):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.fixture(scope="module")
def shared():
    operator = Workers(Waves(), count=2)
    yield operator
    operator.close()


def test_values_gradients_and_subsets_are_those_of_the_operator(shared):
    x, plain = models(7), Waves()
    torch.testing.assert_close(shared(x), plain(x))
    chosen = torch.tensor([[k % 3, (k + 1) % 3] for k in range(7)])
    for ask in (
        lambda operator, at: operator(at),
        lambda operator, at: operator.forward_sources(at, chosen),
    ):
        gradients = []
        for operator in (shared, plain):
            at = x.clone().requires_grad_()
            gradients.append(torch.autograd.grad(ask(operator, at).square().sum(), at)[0])
        torch.testing.assert_close(*gradients)
    assert shared.sources == 3 and shared(models(0)).shape == (0, 3, 5)


class Bounded(Waves):
    """Defined below 1 alone; breaks elsewhere."""

    def valid(self, x: Tensor) -> Tensor:
        return (x < 1).all(1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.valid(x).all()
        return super().forward(x)


def test_points_outside_of_the_domain_are_not_sent():
    x, shared = torch.full((3, 4), 0.5), Workers(Bounded(), count=1)
    x[1] = 60.0
    try:
        assert shared.valid(x).tolist() == [True, False, True]
        y = shared(x)
        assert y[1].isnan().all() and y[[0, 2]].isfinite().all()
        assert shared.subset(x, torch.zeros(3, 1, dtype=torch.long))[1].isnan().all()
    finally:
        shared.close()


def test_gradients_asked_for_late_are_computed_again(shared):
    at = models(3).requires_grad_()
    first = shared(at)
    shared(models(3).add(1).requires_grad_())  # the workers forget the first call
    expected = models(3).requires_grad_()
    (gradient,) = torch.autograd.grad(first.sum(), at)
    torch.testing.assert_close(gradient, torch.autograd.grad(Waves()(expected).sum(), expected)[0])


def test_results_do_not_depend_on_the_number_of_workers(shared):
    alone = Workers(Waves(), count=1)
    try:
        assert torch.equal(alone(models(9, torch.float32)), shared(models(9, torch.float32)))
    finally:
        alone.close()


def test_it_passes_the_checks_of_operators(shared):
    check_operator(shared, models(4))


def test_errors_come_back_in_plain_words_and_the_next_call_works(shared):
    with pytest.raises(
        PflowError,
        match=(
            r"a worker process of `Waves` says: ZeroDivisionError: the wave broke"
            r" \(.*test_workers.py, line"
        ),
    ):
        shared(models(4) + 60)
    with pytest.raises(PflowError, match="`x` must stay below 40"):
        shared(models(4) * 0 + 45)
    with pytest.raises(PflowError, match=r"died \(exit status 7"):
        shared(models(4) * 0 + 35)
    torch.testing.assert_close(shared(models(2)), Waves()(models(2)))


PROGRAM = """
import sys, time, torch
sys.path.insert(0, {folder!r})
from test_workers import Waves
from pflow.operators.workers import Workers
if __name__ == "__main__":
    operator = Workers(Waves(), count=1)
    operator(torch.zeros(4, 4))
    print(*(process.pid for process in operator._pool.processes), flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, number):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(folder=str(Path(__file__).parent)))
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as program:
        workers = [int(number) for number in program.stdout.readline().split()]
        assert len(workers) == 1
        program.send_signal(number)
        program.wait(60)
    deadline = time.monotonic() + 20
    while any(_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(worker) for worker in workers)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
