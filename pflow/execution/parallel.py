"""Several processes that share every batch of one training (torchrun, DistributedDataParallel), on
one machine or on the nodes of a SLURM job.

Each of n processes has the same weights, random stream and history, and uses every n-th row of a
batch; gradients are averaged. All processes agree on events that change the run (a loss that is not
finite, a signal), so that none waits forever for another. Only the first process writes files.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor

from pflow.errors import PassingError, PflowError

__all__ = [
    "Group",
    "SingleProcess",
    "is_worker",
    "join_group",
    "leave_message",
    "run_workers",
    "worker_count",
]

MESSAGE_FILE = "PFLOW_WORKER_MESSAGE"
PATIENCE_SECONDS = 40.0


class SingleProcess:
    """A single process: every operation is trivial."""

    rank, size = 0, 1

    def mean(self, value: float) -> float:
        """The mean of `value` over all processes."""
        return value

    def largest(self, value: int) -> int:
        """The largest `value` of all processes."""
        return value

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module whose backward averages gradients over all processes."""
        return module

    def leave(self) -> None:
        """Wait for the other processes and leave the group."""


class Group(SingleProcess):
    """This process among those that torchrun started."""

    def __init__(self, device: torch.device) -> None:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def mean(self, value: float) -> float:
        return float(self._reduce(value, distributed.ReduceOp.SUM)) / self.size

    def largest(self, value: int) -> int:
        return int(self._reduce(value, distributed.ReduceOp.MAX))

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        return torch.nn.parallel.DistributedDataParallel(module)

    def leave(self) -> None:
        distributed.barrier()
        distributed.destroy_process_group()

    def _reduce(self, value: float, how: distributed.ReduceOp.RedOpType) -> Tensor:
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(shared, how)
        return shared


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and MESSAGE_FILE in os.environ


def worker_count() -> int:
    """How many processes share this training on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_worker() else 1


def join_group(device: torch.device) -> SingleProcess:
    """The group of this process; a single process if torchrun did not start it."""
    return Group(device) if is_worker() else SingleProcess()


def run_workers(
    arguments: Sequence[str], devices: int, nodes: int, threads: int, message: Path
) -> None:
    """Run `python -m pflow ARGUMENTS` in `devices` processes on each of `nodes` nodes; all of them
    here where there is no SLURM job.

    Arguments:
        arguments: ARGUMENTS.
        devices: processes on each node.
        nodes: number of nodes.
        threads: CPUs on each node, for all its processes.
        message: file where the first process writes the message of an error in the input.

    Raises:
        PflowError: that error.
        PassingError: a process ended in another way.
    """
    command = [*_launcher(devices, nodes, threads), "-m", "pflow", *arguments]
    message.parent.mkdir(parents=True, exist_ok=True)
    message.unlink(missing_ok=True)
    workers = subprocess.Popen(
        command, env={"OMP_NUM_THREADS": "1", **os.environ, MESSAGE_FILE: str(message)}
    )
    try:
        status = workers.wait()
    except BaseException:  # a signal: the workers save their state before they end
        workers.send_signal(signal.SIGTERM)
        try:
            workers.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            workers.kill()
            workers.wait()
        raise
    if status == 0:
        return
    if message.exists():
        text = message.read_text(encoding="utf-8")
        message.unlink()
        raise PflowError(text)
    raise PassingError(
        f"one of the {devices * nodes} processes of `pretrain.devices` and `nodes` ended with an"
        " error (see the lines above): run again to continue"
    )


def _launcher(devices: int, nodes: int, threads: int) -> list[str]:
    """The command before `-m pflow`: torchrun, and on several nodes one torchrun on each, connected
    through this node.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    job = os.environ.get("SLURM_JOB_ID")
    if nodes == 1 or not job:
        return [*torchrun, "--standalone", f"--nproc-per-node={devices * nodes}"]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    each = [
        "srun",
        "--overlap",
        "--kill-on-bad-exit=1",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={threads}",
    ]
    meeting = [
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={socket.gethostname()}:{port}",
        f"--rdzv-id={job}",
    ]
    return [*each, *torchrun, f"--nnodes={nodes}", f"--nproc-per-node={devices}", *meeting]


def leave_message(text: str) -> None:
    """Write the error message for the process that started the workers."""
    if is_worker() and os.environ["RANK"] == "0":
        Path(os.environ[MESSAGE_FILE]).write_text(text, encoding="utf-8")
