"""An operator that is a model on a UM-Bridge server, in any language, on any machine.

A server answers JSON over HTTP: https://um-bridge-benchmarks.readthedocs.io. What a model takes and
gives is a list of vectors; here x is all of its input vectors one after the other, and F(x) all of
its output vectors.

Reference:
    | UM-Bridge: Uncertainty quantification and modeling bridge (Seelinger et al., 2023)
    | https://doi.org/10.21105/joss.04748
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.umbridge_client import Question, UMBridgeClient

__all__ = ["UMBridgeOperator"]


class UMBridgeOperator(Operator):
    """A model of a UM-Bridge server, asked for one x at a time, several times in parallel.

    A server that cannot be reached, or that ends during a request, is asked again until
    `patience_s` is over: it may be restarted in between. A gradient exists if the model supports
    `Gradient`, and `jvp` if it supports `ApplyJacobian`.

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
        self.client = UMBridgeClient(url, model, parallel_requests, timeout_s, patience_s)
        self.config = dict(config or {})
        support, about = self.client.supported(), {"name": model, "config": self.config}
        sizes = {task: self.client.ask(task, about) for task in ("InputSizes", "OutputSizes")}
        self.input_sizes = [int(n) for n in sizes["InputSizes"]["inputSizes"]]
        self.output_sizes = [int(n) for n in sizes["OutputSizes"]["outputSizes"]]
        size = sum(self.input_sizes)
        shape = (size,) if model_shape is None else tuple(model_shape)
        if math.prod(shape) != size:
            raise PflowError(
                f"`model_shape` (={list(shape)}) must have the {size} parameters that the model"
                f" {model!r} of {self.client.url} takes: correct it, or leave it out"
            )
        super().__init__(shape, (sum(self.output_sizes),))
        self.differentiable = bool(support.get("Gradient", False))
        if support.get("ApplyJacobian", False):
            self.jvp = self._apply_jacobian

    def valid(self, x: Float[Tensor, "batch *model"]) -> Bool[Tensor, " batch"]:
        """Whether all parameters are finite: JSON has no other numbers."""
        return x.flatten(1).isfinite().all(1)

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        requests = [self._request(row) for row in x.flatten(1).detach().cpu().double()]
        answers = self.client.vectors(
            [("Evaluate", request, self.output_sizes) for request in requests]
        )
        return torch.stack([torch.cat(answer) for answer in answers]).to(x)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        if not self.differentiable:
            raise PflowError(
                f"the model {self.client.model!r} of {self.client.url} has no gradient, and one was"
                " asked for: set `objective: auto`, which learns from values alone"
            )

        def questions(row: Tensor, residual: Tensor) -> list[Question]:
            request, parts = self._request(row), residual.split(self.output_sizes)
            return [
                (
                    "Gradient",
                    {**request, "outWrt": output, "inWrt": i, "sens": parts[output].tolist()},
                    [self.input_sizes[i]],
                )
                for output, i in self._blocks
            ]

        sums = self._summed(x, v, questions, [i for _, i in self._blocks], self.input_sizes)
        return sums.reshape(x.shape).to(x)

    def _apply_jacobian(
        self, x: Float[Tensor, "batch *model"], d: Float[Tensor, "batch *model"]
    ) -> Float[Tensor, "batch *data"]:
        """J(x) d, the method `jvp` of a model that supports `ApplyJacobian`."""

        def questions(row: Tensor, direction: Tensor) -> list[Question]:
            request, parts = self._request(row), direction.split(self.input_sizes)
            return [
                (
                    "ApplyJacobian",
                    {**request, "outWrt": output, "inWrt": i, "vec": parts[i].tolist()},
                    [self.output_sizes[output]],
                )
                for output, i in self._blocks
            ]

        places = [output for output, _ in self._blocks]
        return self._summed(x, d, questions, places, self.output_sizes).to(x)

    @property
    def _blocks(self) -> list[tuple[int, int]]:
        """The pairs of an output and an input vector, each a block of the Jacobian and a request of
        its own.
        """
        return list(itertools.product(range(len(self.output_sizes)), range(len(self.input_sizes))))

    def _summed(
        self,
        x: Tensor,
        v: Tensor,
        questions: Callable[[Tensor, Tensor], list[Question]],
        places: Sequence[int],
        sizes: Sequence[int],
    ) -> Float[Tensor, "batch size"]:
        """Products with the Jacobian at each x: the answers to `questions` of a row of x and of v,
        the k-th added to the vector `places[k]` of those of `sizes`.
        """
        rows = x.flatten(1).detach().cpu().double(), v.flatten(1).detach().cpu().double()
        asked = [question for pair in zip(*rows, strict=True) for question in questions(*pair)]
        answers = iter(self.client.vectors(asked))
        sums = torch.zeros(len(x), sum(sizes), dtype=torch.float64)
        for row in sums:
            parts = row.split(list(sizes))  # views
            for place in places:
                parts[place].add_(next(answers)[0])
        return sums

    def _request(self, x: Float[Tensor, " size"]) -> dict[str, Any]:
        """What each question about one x contains."""
        inputs = [part.tolist() for part in x.split(self.input_sizes)]
        return {"name": self.client.model, "input": inputs, "config": self.config}
