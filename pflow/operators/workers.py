"""An operator in worker processes, which share each batch.

For operators that use one core and are not parallel themselves. The processes start at the first
call and stay; each has one thread. A batch is cut into pieces of the same few models whatever the
number of workers, so results do not depend on it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pflow.errors import PflowError
from pflow.operators.base import Operator

__all__ = ["Workers"]


class _Shared(torch.autograd.Function):
    """Forward in the workers, which store the state for the gradient; the backward uses the same
    workers.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, operator: Workers, arguments: tuple[Tensor, ...]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.operator, ctx.arguments = operator, arguments
        ctx.ticket = next(operator.tickets)
        return operator.ask("forward", x, *arguments, ticket=ctx.ticket)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, v: Tensor) -> tuple[Tensor, None, None]:
        return (
            ctx.operator.ask("gradient", *ctx.saved_tensors, *ctx.arguments, v, ticket=ctx.ticket),
            None,
            None,
        )


class Workers(Operator):
    """Another operator, evaluated in `count` processes.

    Arguments:
        operator: what to evaluate; it is pickled, and the batch must be its first axis.
        count: processes.
        piece: models in one message. A larger number needs fewer messages, a smaller one balances
            the work better.
    """

    def __init__(self, operator: Operator, count: int, piece: int = 2) -> None:
        super().__init__(operator.model_shape, operator.data_shape)
        self.linear, self.sources, self.differentiable = (
            operator.linear,
            operator.sources,
            operator.differentiable,
        )
        self.valid, self.reference = operator.valid, operator.reference
        self.name, self.count, self.piece = type(operator).__name__, count, piece
        self.tickets: Iterator[int] = itertools.count()
        self._pickled = pickle.dumps(operator)
        self._pool: _Pool | None = None

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return self._differentiable(x)

    def forward_sources(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k *rest"]:
        """The rows of F(x) for those sources, other ones for each model, where the operator has
        them.
        """
        return self._differentiable(x, sources)

    def adjoint(self, v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        return self.ask("adjoint", v)

    def close(self) -> None:
        """End the processes; the next call starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def ask(self, task: str, *tensors: Tensor, ticket: int | None = None) -> Tensor:
        """`task` of the operator for each piece of the batch.

        Raises:
            PflowError: the error of a worker, or the end of a worker process.
        """
        if self._pool is None:
            self._pool = _Pool(self._pickled, self.count, self.name)
        batch, like = len(tensors[0]), tensors[0]
        pieces = [slice(first, first + self.piece) for first in range(0, batch, self.piece)] or [
            slice(0, 0)
        ]
        arrays = [tensor.detach().cpu().numpy() for tensor in tensors]
        messages = [
            (
                task,
                None if ticket is None else (ticket, part.start),
                [array[part] for array in arrays],
            )
            for part in pieces
        ]
        try:
            answers = self._pool.run(messages)
        except BaseException:  # a worker has ended, or still works on this call
            self.close()
            raise
        for fine, answer in answers:
            if not fine:
                raise PflowError(f"a worker process of `{self.name}` says: {answer}")
        return torch.cat([torch.from_numpy(answer) for _, answer in answers]).to(like)

    def _differentiable(self, x: Tensor, *arguments: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return _Shared.apply(x, self, arguments)
        return self.ask("forward", x, *arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


class _Pool:
    """The processes. They end with this object and with the program, also if it is killed."""

    def __init__(self, pickled: bytes, count: int, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.connections, processes = name, [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, pickled, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            self.connections.append(ours)
            processes.append(process)
        self.processes = processes
        self.close = weakref.finalize(self, _end, self.connections, processes)

    def run(self, messages: Sequence[tuple]) -> list[tuple[bool, Any]]:
        """The answers, in order. Piece i belongs to worker i modulo their number, which may store
        the state for its gradient.
        """
        queues = {
            connection: list(range(k, len(messages), len(self.connections)))[::-1]
            for k, connection in enumerate(self.connections)
        }
        answers: dict[int, tuple[bool, Any]] = {}
        waiting: dict[Connection, int] = {}
        try:
            for connection in self.connections:
                self._send(connection, queues, waiting, messages)
            while waiting:
                for connection in wait(list(waiting)):
                    answers[waiting.pop(connection)] = pickle.loads(connection.recv_bytes())
                    self._send(connection, queues, waiting, messages)
        except (EOFError, OSError) as error:
            codes = sorted(
                {
                    process.exitcode
                    for process in self.processes
                    if process.join(0.5) or process.exitcode is not None
                }
            )
            cause = (
                f" (exit status {', '.join(map(str, codes))}; -9 is mostly a lack of memory)"
                if codes
                else ""
            )
            raise PflowError(
                f"a worker process of `{self.name}` died{cause}: run it with `workers: 1` to see"
                " why, or ask for more memory"
            ) from error
        return [answers[k] for k in range(len(messages))]

    def _send(
        self, connection: Connection, queues: dict, waiting: dict, messages: Sequence[tuple]
    ) -> None:
        if queues[connection]:
            waiting[connection] = queues[connection].pop()
            connection.send_bytes(pickle.dumps(messages[waiting[connection]]))


def _end(connections: list[Connection], processes: list) -> None:
    for connection in connections:
        connection.close()
    for process in processes:
        process.join(0.5)
        if process.is_alive():
            process.kill()
            process.join()


def _work(connection: Connection, pickled: bytes, parent: int) -> None:
    """The loop of a worker: answer requests until the connection is closed."""
    # Ignore signals to the process group: the program handles them, and may need its workers to
    # finish a step.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    operator = None
    while True:
        try:
            task, ticket, arrays = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            operator = operator or pickle.loads(pickled)
            answer = (
                True,
                _answer(
                    operator,
                    task,
                    ticket,
                    [torch.from_numpy(array.copy()) for array in arrays],
                    kept,
                ),
            )
        except PflowError as error:
            answer = False, str(error)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            answer = (
                False,
                f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})",
            )
        try:
            connection.send_bytes(pickle.dumps(answer))
        except OSError:
            return


def _answer(
    operator: Operator, task: str, ticket: tuple[int, int] | None, tensors: list[Tensor], kept: dict
) -> Any:
    if task == "adjoint":
        return operator.adjoint(*tensors).numpy()
    if task == "forward" and ticket is None:
        with torch.no_grad():
            return _forward(operator, *tensors).numpy()
    if task == "forward":
        for old in [
            one for one in kept if one[0] != ticket[0]
        ]:  # states whose gradient was never requested
            del kept[old]
        kept[ticket] = _with_graph(operator, *tensors)
        return kept[ticket][1].detach().numpy()
    *inputs, v = tensors
    x, y = kept.pop(ticket, None) or _with_graph(operator, *inputs)
    return torch.autograd.grad(y, x, v)[0].numpy()


def _with_graph(operator: Operator, x: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    x = x.requires_grad_()
    return x, _forward(operator, x, *arguments)


def _forward(operator: Operator, x: Tensor, *arguments: Tensor) -> Tensor:
    return operator.forward_sources(x, *arguments) if arguments else operator(x)


def _leave_with(parent: int) -> None:
    """End this process as soon as its parent has ended, even during a computation."""
    multiprocessing.parent_process().join()
    os._exit(1)
