"""An operator that runs a program; models and data are passed as files."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator

if TYPE_CHECKING:
    from numpy import ndarray

__all__ = ["ProgramOperator"]

LAST_LINES = 20  # of the output of a failed program, in its error message


class ProgramOperator(Operator):
    """A program that is run once for each model, several at a time, in any language.

    Files are float64 arrays in NumPy's `.npy` format (16 lines of any language can read it), in a
    folder that is removed afterwards. The command is split as a shell would, and run without one;
    in it stand the names of files to read and to write:

        {x}   one model, of the shape `model_shape`
        {y}   where to write F(x), of the shape `data_shape`
        {v}   one vector of data, for the gradient
        {g}   where to write the gradient, J(x)^T v, of the shape `model_shape`

    Arguments:
        command: for example "wave_solver --model {x} --out {y}".
        model_shape: shape of one x.
        data_shape: shape of one F(x).
        gradient_command: for example "wave_solver --model {x} --residual {v} --gradient {g}"; None
            where there is none: `objective: auto`, `surrogate` and `importance` need none.
        processes: how many run at a time.
        timeout_s: seconds after which a run has failed.
        linear: whether F is linear.

    Raises:
        PflowError: for a command without its files; at use for a program that is missing, fails,
            takes too long or writes an invalid result, with its exit status and its last lines.
    """

    def __init__(
        self,
        command: str,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        gradient_command: str | None = None,
        *,
        processes: int = 1,
        timeout_s: float = 3600.0,
        linear: bool = False,
    ) -> None:
        super().__init__(model_shape, data_shape)
        for name, text, files in (
            ("command", command, "xy"),
            ("gradient_command", gradient_command, "xvg"),
        ):
            missing = [
                f"{{{file}}}" for file in files if text is not None and f"{{{file}}}" not in text
            ]
            if missing:
                raise PflowError(
                    f"`{name}` (={text!r}) must name its files, and has no"
                    f" {' and no '.join(missing)}: write them where the program expects file names"
                )
        if processes < 1 or timeout_s <= 0:
            raise PflowError(
                f"`processes` (={processes}) must be at least 1 and `timeout_s` (={timeout_s})"
                " positive: correct them"
            )
        self.command, self.gradient_command, self.processes, self.timeout_s = (
            command,
            gradient_command,
            processes,
            timeout_s,
        )
        self.linear, self.differentiable = linear, gradient_command is not None

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return self._run_all(self.command, "y", self.data_shape, {"x": x})

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        if self.gradient_command is None:
            raise PflowError(
                f"the program {self.command!r} has no gradient, and one was asked for: give"
                " `gradient_command`, or set `objective: auto`, which learns from values alone"
            )
        return self._run_all(self.gradient_command, "g", self.model_shape, {"x": x, "v": v})

    def _run_all(
        self, command: str, output: str, shape: tuple[int, ...], inputs: dict[str, Tensor]
    ) -> Tensor:
        arrays = {name: value.detach().double().cpu().numpy() for name, value in inputs.items()}
        rows = [
            {name: values[i] for name, values in arrays.items()} for i in range(len(inputs["x"]))
        ]
        interrupted = Event()
        with ThreadPoolExecutor(self.processes) as pool:
            waiting = [
                pool.submit(self._run, command, output, shape, row, interrupted) for row in rows
            ]
            try:
                results = [one.result() for one in waiting]
            except BaseException:
                interrupted.set()
                pool.shutdown(cancel_futures=True)
                raise
        return torch.stack([torch.from_numpy(result) for result in results]).to(inputs["x"])

    def _run(
        self,
        command: str,
        output: str,
        shape: tuple[int, ...],
        inputs: dict[str, ndarray],
        interrupted: Event,
    ) -> ndarray:
        import numpy as np

        with tempfile.TemporaryDirectory(prefix="pflow-") as folder:
            paths = {name: Path(folder, f"{name}.npy") for name in (*inputs, output)}
            for name, values in inputs.items():
                np.save(paths[name], np.ascontiguousarray(values))
            words = shlex.split(command)
            for name, path in paths.items():
                words = [word.replace(f"{{{name}}}", str(path)) for word in words]
            self._finish(words, Path(folder), interrupted)
            try:
                result = np.load(paths[output], allow_pickle=False)
            except (OSError, ValueError) as error:
                raise PflowError(
                    f"{shlex.join(words)} must write {output}.npy, and it cannot be read ({error}):"
                    " check where the program writes"
                ) from error
        if result.shape != shape or np.iscomplexobj(result):
            raise PflowError(
                f"{shlex.join(words)} must write real numbers of shape {shape}, and wrote"
                f" {result.dtype} of shape {result.shape}: correct it, or the shapes"
            )
        return result.astype(np.float64)

    def _finish(self, words: list[str], folder: Path, interrupted: Event) -> None:
        """Run a command until it ends or its time is over."""
        said, deadline = folder / "said.txt", time.monotonic() + self.timeout_s
        with said.open("w") as output:
            try:
                # A session of its own, so that what the program has started can be ended with it.
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise PflowError(
                    f"{shlex.join(words)} cannot be started ({error.strerror}): give the path of"
                    " the program"
                ) from error
            while (
                process.poll() is None and not interrupted.is_set() and time.monotonic() < deadline
            ):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(0.2, max(0.0, deadline - time.monotonic())))
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not ended:
            raise PflowError(
                f"{shlex.join(words)} must end within `timeout_s` (={self.timeout_s:g}) seconds,"
                f" and did not: raise it, or look for why\n{_end_of(said)}"
            )
        if process.returncode != 0:
            raise PflowError(
                f"{shlex.join(words)} failed with exit status {process.returncode}; its last"
                f" words:\n{_end_of(said)}"
            )


def _end_of(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LAST_LINES:]) or "(it said nothing)"
