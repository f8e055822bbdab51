"""Questions to one model of a UM-Bridge server, over HTTP: in parallel, and again while the server
cannot be reached.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import STOP_REQUESTED, PassingError, PflowError

__all__ = ["Question", "UMBridgeClient"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between attempts to reach a server
GLANCE_S = 0.2  # between two looks whether to wait any longer
UNREACHABLE = (502, 503, 504)  # what a proxy or load balancer says while a server starts
JSON_NUMBER = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
PYTHON_NUMBER = re.compile(r"(?<![\w\"-])(nan|-?inf)(?![\w\"])")
Question = tuple[str, dict[str, Any], Sequence[int]]  # task, request, sizes of the answered vectors


class UMBridgeClient:
    """A model of a UM-Bridge server.

    Arguments:
        url: of the server.
        model: the name of the model on this server.
        parallel_requests: requests at the same time.
        timeout_s: seconds after which a request has failed.
        patience_s: seconds for which a server that cannot be reached is asked again.

    Raises:
        PflowError: for a setting that makes no sense; at use for an answer that is none, or none
            within `timeout_s`.
        PassingError: at use, if the server cannot be reached.
    """

    def __init__(
        self, url: str, model: str, parallel_requests: int, timeout_s: float, patience_s: float
    ) -> None:
        if parallel_requests < 1 or timeout_s <= 0 or patience_s < 0:
            raise PflowError(
                f"`parallel_requests` (={parallel_requests}) must be at least 1, `timeout_s`"
                f" (={timeout_s:g}) positive and `patience_s` (={patience_s:g}) not negative:"
                " correct them"
            )
        self.url, self.model = url.rstrip("/"), model
        self.parallel_requests = parallel_requests
        self.timeout_s, self.patience_s = timeout_s, patience_s

    def vectors(self, questions: Sequence[Question]) -> list[list[Float[Tensor, " size"]]]:
        """The vectors that the server answers to each question."""
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
        output = self.ask(task, request, interrupted)["output"]
        try:
            numbers = output if task == "Evaluate" else [output]
            vectors = [
                torch.tensor([math.nan if v is None else v for v in vector], dtype=torch.float64)
                for vector in numbers
            ]
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

    def supported(self) -> dict[str, bool]:
        """Which tasks the model supports, once it is known that the server has it."""
        names = self.ask("Info", None)["models"]
        if self.model not in names:
            raise PflowError(
                f"the model {self.model!r} must be one of those of {self.url}:"
                f" {', '.join(map(repr, names))}"
            )
        return self.ask("ModelInfo", {"name": self.model})["support"]

    def ask(
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
            content = _decoded(response.content.decode(errors="replace"))
        except ValueError:
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


def _decoded(text: str) -> Any:
    """JSON, in which a server in Python may have written nan, inf and -inf.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(PYTHON_NUMBER.sub(lambda found: JSON_NUMBER[found[0]], text))


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
