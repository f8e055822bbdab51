"""An operator that is a model on a UM-Bridge server, in any language, on any machine.

A server answers JSON over HTTP: https://um-bridge-benchmarks.readthedocs.io. What a model takes and
gives is a list of vectors; here x is all of its input vectors one after the other, and F(x) all of
its output vectors.

Reference:
    | UM-Bridge: Uncertainty quantification and modeling bridge (Seelinger et al., 2023)
    | https://doi.org/10.21105/joss.04748
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pflow.errors import STOP_REQUESTED, PassingError, PflowError
from pflow.operators.base import Operator

__all__ = ["UMBridgeOperator"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between attempts to reach a server
GLANCE_S = 0.2  # between two looks whether to wait any longer
UNREACHABLE = (502, 503, 504)  # what a proxy or load balancer says while a server starts


class UMBridgeOperator(Operator):
    """A model of a UM-Bridge server, asked for one x at a time, several times in parallel.

    A server that cannot be reached, or that ends during a request, is asked again until
    `patience_s` is over: it may be restarted in between. A gradient exists if the model supports
    `Gradient`.

    Arguments:
        url: of the server, such as "http://localhost:4242".
        model: the name of the model on this server.
        config: the model's configuration, sent with each request.
        model_shape: the shape of one x; by default a vector of all inputs of the model.
        parallel_requests: requests at the same time, as many as the server can work on.
        timeout_s: seconds after which a request has failed.
        patience_s: seconds for which a server that cannot be reached is asked again.

    Raises:
        PflowError: for a model that the server does not have, or a shape that does not fit it; at
            use for a point that the model fails at, an answer of the wrong size, or no answer
            within `timeout_s`.
        PassingError: if the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        model: str,
        config: Mapping[str, Any] | None = None,
        *,
        model_shape: Sequence[int] | None = None,
        parallel_requests: int = 1,
        timeout_s: float = 3600.0,
        patience_s: float = 120.0,
    ) -> None:
        if parallel_requests < 1 or timeout_s <= 0 or patience_s < 0:
            raise PflowError(
                f"`parallel_requests` (={parallel_requests}) must be at least 1, `timeout_s`"
                f" (={timeout_s:g}) positive and `patience_s` (={patience_s:g}) not negative:"
                " correct them"
            )
        self.url, self.model, self.config = url.rstrip("/"), model, dict(config or {})
        self.parallel_requests = parallel_requests
        self.timeout_s, self.patience_s = timeout_s, patience_s
        support = self._supported()
        about = {"name": model, "config": self.config}
        self.input_sizes = [int(n) for n in self._ask("InputSizes", about)["inputSizes"]]
        self.output_sizes = [int(n) for n in self._ask("OutputSizes", about)["outputSizes"]]
        size = sum(self.input_sizes)
        shape = (size,) if model_shape is None else tuple(model_shape)
        if math.prod(shape) != size:
            raise PflowError(
                f"`model_shape` (={list(shape)}) must have the {size} parameters that the model"
                f" {model!r} of {self.url} takes: correct it, or leave it out"
            )
        super().__init__(shape, (sum(self.output_sizes),))
        self.differentiable = bool(support.get("Gradient", False))

    def valid(self, x: Float[Tensor, "batch *model"]) -> Bool[Tensor, " batch"]:
        """Whether all parameters are finite: JSON has no other numbers."""
        return x.flatten(1).isfinite().all(1)

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        requests = [self._request(row) for row in x.flatten(1).detach().cpu().double()]
        answers = self._ask_all([("Evaluate", request, self.output_sizes) for request in requests])
        return torch.stack([torch.cat(answer) for answer in answers]).to(x)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        if not self.differentiable:
            raise PflowError(
                f"the model {self.model!r} of {self.url} has no gradient, and one was asked for:"
                " use methods that need none, such as `objective: importance`"
            )
        # One request for each output and input of the model: J^T v sums over the outputs.
        places = [
            (output, i)
            for output in range(len(self.output_sizes))
            for i in range(len(self.input_sizes))
        ]
        questions = []
        for row, residual in zip(
            x.flatten(1).detach().cpu().double(), v.detach().cpu().double(), strict=True
        ):
            request, parts = self._request(row), residual.split(self.output_sizes)
            questions += [
                (
                    "Gradient",
                    {**request, "outWrt": output, "inWrt": i, "sens": parts[output].tolist()},
                    [self.input_sizes[i]],
                )
                for output, i in places
            ]
        answers = iter(self._ask_all(questions))
        gradients = []
        for _ in x:
            parts = [torch.zeros(size, dtype=torch.float64) for size in self.input_sizes]
            for _, i in places:
                parts[i] = parts[i] + next(answers)[0]
            gradients.append(torch.cat(parts))
        return torch.stack(gradients).reshape(x.shape).to(x)

    def _request(self, x: Float[Tensor, " size"]) -> dict[str, Any]:
        """What each question about one x contains."""
        inputs = [part.tolist() for part in x.split(self.input_sizes)]
        return {"name": self.model, "input": inputs, "config": self.config}

    def _ask_all(
        self, questions: Sequence[tuple[str, dict[str, Any], Sequence[int]]]
    ) -> list[list[Float[Tensor, " size"]]]:
        """The vectors that the server answers to each (task, request, their sizes)."""
        interrupted = Event()
        with ThreadPoolExecutor(self.parallel_requests) as pool:
            waiting = [pool.submit(self._vectors, *one, interrupted) for one in questions]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                interrupted.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _vectors(
        self, task: str, request: dict[str, Any], sizes: Sequence[int], interrupted: Event
    ) -> list[Float[Tensor, " size"]]:
        output = self._ask(task, request, interrupted)["output"]
        try:
            numbers = output if task == "Evaluate" else [output]
            vectors = [torch.tensor(vector, dtype=torch.float64) for vector in numbers]
        except (TypeError, ValueError) as error:
            raise PflowError(
                f"{self.url}/{task} of the model {self.model!r} must answer lists of numbers"
                f" ({error}): correct the model"
            ) from error
        if [vector.shape for vector in vectors] != [(size,) for size in sizes]:
            raise PflowError(
                f"{self.url}/{task} of the model {self.model!r} must answer vectors of the sizes"
                f" {list(sizes)} that it declares, and answered {[len(v) for v in vectors]}:"
                " correct the model"
            )
        return vectors

    def _supported(self) -> dict[str, bool]:
        """Which tasks the model supports, once it is known that the server has it."""
        names = self._ask("Info", None)["models"]
        if self.model not in names:
            raise PflowError(
                f"the model {self.model!r} must be one of those of {self.url}:"
                f" {', '.join(map(repr, names))}"
            )
        return self._ask("ModelInfo", {"name": self.model})["support"]

    def _ask(
        self, task: str, request: dict[str, Any] | None, interrupted: Event | None = None
    ) -> dict[str, Any]:
        """The server's answer, as soon as it can be reached; the request None asks with GET."""
        import requests

        interrupted = interrupted or Event()
        started, pause, reason = time.monotonic(), FIRST_PAUSE_S, "interrupted"
        while not (interrupted.is_set() or STOP_REQUESTED.is_set()):
            try:
                response = requests.request(
                    "GET" if request is None else "POST",
                    f"{self.url}/{task}",
                    json=request,
                    timeout=(min(30.0, self.timeout_s), self.timeout_s),
                )
            except requests.ReadTimeout as error:
                raise PflowError(
                    f"{self.url}/{task} must answer within `timeout_s` (={self.timeout_s:g})"
                    f" seconds, and the model {self.model!r} did not: raise it, or look for why"
                ) from error
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                reason = _reason(error)
            except requests.RequestException as error:
                raise PflowError(
                    f"`{self.url}` must be the URL of a UM-Bridge server, such as"
                    f" http://localhost:4242 ({error}): correct it"
                ) from error
            else:
                if response.status_code not in UNREACHABLE:
                    return self._content(response, task)
                reason = f"HTTP status {response.status_code}"
            if time.monotonic() - started + pause > self.patience_s:
                break
            _wait(pause, interrupted)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise PassingError(
            f"the UM-Bridge server {self.url} cannot be reached ({reason}) for `patience_s`"
            f" (={self.patience_s:g}) seconds: start it, or correct its URL, and run again;"
            " evaluations that were made are kept"
        )

    def _content(self, response: Any, task: str) -> dict[str, Any]:
        """The answer of a server that could be reached.

        Raises:
            PflowError: it is an error of the model, or no answer of a UM-Bridge server.
        """
        try:
            content = response.json()
        except (json.JSONDecodeError, ValueError):
            content = None
        if isinstance(content, dict) and "error" in content:
            error = content["error"]
            said = f"{error.get('type', '')}: {error.get('message', '')}"
            raise PflowError(
                f"{self.url}/{task} of the model {self.model!r} failed with {said.strip(': ')}"
            )
        if not response.ok or not isinstance(content, dict):
            raise PflowError(
                f"{self.url}/{task} of the model {self.model!r} failed with HTTP status"
                f" {response.status_code}, {response.text.strip()[:200]!r}: look at what the server"
                " printed"
            )
        return content


def _wait(seconds: float, interrupted: Event) -> None:
    """Wait so long, or until one of the two events."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not STOP_REQUESTED.is_set():
        if interrupted.wait(min(GLANCE_S, seconds)):
            return


def _reason(error: Exception) -> str:
    """The innermost cause of a connection that failed, in a line."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    return str(getattr(error, "reason", error)).rpartition(": ")[2][:120] or type(error).__name__
