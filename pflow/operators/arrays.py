"""Operators from NumPy code and from sparse linear algebra, outside torch, with or without a
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator

if TYPE_CHECKING:
    from numpy import ndarray

__all__ = ["LinearOperatorAdapter", "NumPyOperator"]


class NumPyOperator(Operator):
    r"""NumPy functions for F and its gradient, called with float64 arrays; results take the dtype
    and device of the input.

    Without `vjp` there are values only: use `objective: auto`, `surrogate` or `importance`, which
    need no gradient.

    Arguments:
        forward: x -> F(x).
        model_shape: shape of one x.
        data_shape: shape of one F(x). Complex results become real, with a last axis (real,
            imaginary).
        vjp: (x, v) -> :math:`J(x)^\top v`.
        batched: whether the functions take a batch, (batch, *model); otherwise one model at a time.
        linear: whether F is linear; then `vjp` does not depend on x.
        valid: x -> (batch,) booleans as a tensor, where F is not defined for every x.

    Example:
        >>> import numpy as np
        >>> F = NumPyOperator(np.exp, (2,), (2,), vjp=lambda x, v: np.exp(x) * v)
        >>> F(torch.zeros(1, 2))
        tensor([[1., 1.]])
    """

    def __init__(
        self,
        forward: Callable[[ndarray], ndarray],
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        vjp: Callable[[ndarray, ndarray], ndarray] | None = None,
        *,
        batched: bool = True,
        linear: bool = False,
        valid: Callable[[Float[Tensor, "batch *model"]], Bool[Tensor, " batch"]] | None = None,
    ) -> None:
        super().__init__(model_shape, data_shape)
        self._forward, self._vjp, self.batched, self.linear, self.valid = (
            forward,
            vjp,
            batched,
            linear,
            valid,
        )
        self.differentiable = vjp is not None

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return self._ask(self._forward, x, like=x)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        if self._vjp is None:
            raise PflowError(
                "this NumPy operator has no gradient, and one was asked for: give `vjp=`, or set"
                " `objective: auto`, which learns from values alone"
            )
        return self._ask(self._vjp, x, v, like=x)

    def _ask(self, function: Callable[..., ndarray], *inputs: Tensor, like: Tensor) -> Tensor:
        import numpy as np

        # Copies: a function that writes into its arguments must not change what the caller keeps.
        arrays = [value.detach().double().cpu().numpy().copy() for value in inputs]
        result = (
            function(*arrays)
            if self.batched
            else np.stack([function(*rows) for rows in zip(*arrays, strict=True)])
        )
        return real_tensor(result, like)


class LinearOperatorAdapter(Operator):
    """A SciPy or PyLops `LinearOperator`: a whole batch goes through one `matmat`, its gradient
    through one `rmatmat`.

    A complex operator gives data with a last axis (real, imaginary); models are real.

    Arguments:
        operator: anything with `shape`, `dtype`, `matmat` and `rmatmat`.
        model_shape: shape of one x; by default PyLops's `dims`, or a vector.
        data_shape: shape of one F(x); by default PyLops's `dimsd`, or a vector.

    Raises:
        PflowError: if a shape does not fit the operator's.

    Example:
        >>> import numpy as np
        >>> from scipy.sparse.linalg import aslinearoperator
        >>> F = LinearOperatorAdapter(aslinearoperator(np.array([[1.0, 2.0]])))
        >>> F(torch.ones(1, 2)), F.adjoint(torch.ones(1, 1))
        (tensor([[3.]]), tensor([[1., 2.]]))
    """

    linear = True

    def __init__(
        self,
        operator: Any,
        model_shape: Sequence[int] | None = None,
        data_shape: Sequence[int] | None = None,
    ) -> None:
        rows, columns = operator.shape
        self.operator, self.is_complex = operator, _is_complex(operator.dtype)
        model_shape = tuple(
            getattr(operator, "dims", (columns,)) if model_shape is None else model_shape
        )
        if data_shape is None:
            data_shape = (*getattr(operator, "dimsd", (rows,)), *([2] if self.is_complex else []))
        super().__init__([int(n) for n in model_shape], [int(n) for n in data_shape])
        wanted = {"model_shape": columns, "data_shape": 2 * rows if self.is_complex else rows}
        for name, size in wanted.items():
            if math.prod(getattr(self, name)) != size:
                raise PflowError(
                    f"`{name}` (={getattr(self, name)}) must have {size} elements for an operator"
                    f" of shape {tuple(operator.shape)}: correct it"
                )

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        columns = x.detach().flatten(1).T.cpu().numpy()
        return real_tensor(self.operator.matmat(columns).T, x).reshape(len(x), *self.data_shape)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        v = v.detach().reshape(len(v), -1, 2) if self.is_complex else v.detach().flatten(1)
        columns = (torch.view_as_complex(v.contiguous()) if self.is_complex else v).T.cpu().numpy()
        # The models are real: of what a complex operator sends back only the real part is the
        # gradient.
        return real_tensor(self.operator.rmatmat(columns).T.real, x).reshape(
            len(x), *self.model_shape
        )


def real_tensor(values: Any, like: Tensor) -> Tensor:
    """An array as a tensor in the dtype and on the device of `like`; complex numbers as a last axis
    (real, imaginary).
    """
    tensor = torch.as_tensor(values)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.to(like, copy=True)


def _is_complex(dtype: Any) -> bool:
    import numpy as np

    return bool(np.issubdtype(np.dtype(dtype), np.complexfloating))
