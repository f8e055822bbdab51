"""A wrapper of an operator that checks inputs and results of every call."""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator

__all__ = ["CheckedOperator"]


class CheckedOperator:
    """An operator whose every result is checked for type, shape, dtype, device and finite values,
    and every input for changes.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.linear, self.differentiable = operator.linear, operator.differentiable
        self.name = type(operator).__name__

    def forward(self, x: Tensor) -> Tensor:
        return self._call("forward", self.operator.data_shape, x)

    def adjoint(self, v: Tensor) -> Tensor:
        return self._call("adjoint", self.operator.model_shape, v)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._call("vjp", self.operator.model_shape, x, v)

    def jvp(self, x: Tensor, d: Tensor) -> Tensor:
        return self._call("jvp", self.operator.data_shape, x, d)

    def _call(self, method: str, shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
        name = f"{self.name}.{method}"
        handed = [value.clone() for value in inputs]
        like, expected = inputs[0], (len(inputs[0]), *shape)
        try:
            result = getattr(self.operator, method)(*handed)
        except PflowError:
            raise
        except Exception as error:
            shapes = " and ".join(str(tuple(value.shape)) for value in inputs)
            raise PflowError(
                f"`{name}` must take a whole batch at once, and given {shapes} it raised"
                f" {type(error).__name__}: {error}. The first axis is the batch: write F(x) = A x"
                " as `x @ A.T`, or loop over the members and stack the results"
            ) from error
        if not all(map(torch.equal, inputs, handed)):
            raise PflowError(
                f"`{name}` must leave its input unchanged, and it wrote into it: "
                "start with `x = x.clone()`, or avoid steps like `x += ...`"
            )
        if not isinstance(result, Tensor):
            raise PflowError(
                f"`{name}` must return a torch tensor, and returned {type(result).__name__}:"
                " convert it with `torch.as_tensor`"
            )
        if tuple(result.shape) != expected:
            raise PflowError(
                f"`{name}` must return shape {expected}, the batch first, and returned"
                f" {tuple(result.shape)}: treat the first axis of the input as the batch, or"
                " correct `model_shape` and `data_shape`"
            )
        if result.dtype != like.dtype:
            raise PflowError(
                f"`{name}` must return the dtype of its input ({like.dtype}), and returned"
                f" {result.dtype}: bring constants to the input's dtype with `constant.to(x)`, or"
                " end with `.to(x.dtype)`"
            )
        if result.device != like.device:
            raise PflowError(
                f"`{name}` must stay on the device of its input ({like.device}), and returned"
                f" {result.device}: bring constants there with `constant.to(x)`"
            )
        if not result.isfinite().all():
            bad = int((~result.isfinite()).flatten(1).any(1).sum())
            raise PflowError(
                f"`{name}` must be finite for models of the prior, and {bad} of {len(result)} gave"
                " NaN or infinity: guard the division, logarithm or root that fails, restrict the"
                " prior to models for which it is defined, or give the operator a method `valid(x)`"
                " that says where it is"
            )
        return result.detach()
