"""Forward operators from what a user has at hand: a function in torch or NumPy, a matrix, an object
of another library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pflow.errors import PflowError
from pflow.operators.adapters import (
    LinearOperatorAdapter,
    MatrixOperator,
    ModuleOperator,
    NumPyOperator,
    PhysicsOperator,
    TorchOperator,
)
from pflow.operators.base import Operator

__all__ = ["operator_from"]


def operator_from(
    given: Any, x: Tensor, gradient: Callable[..., Any] | None, batched: bool, what: str
) -> Operator:
    """The operator that `given` is or computes.

    Arguments:
        given: an `Operator`; a matrix, (data, model); a `torch.nn.Module`; a `LinearOperator` of
            SciPy or PyLops; an object with `A(x)`; or a function of models.
        x: three models to try it with, (3, *model), float64.
        gradient: (x, v) -> J(x)^T v of a NumPy function.
        batched: whether functions take a batch of models or one model.
        what: name of the argument, for messages.

    Raises:
        PflowError: it is none of these, fails on the models, or treats them not one by one.
    """
    shape = tuple(x.shape[1:])
    if gradient is not None and (not callable(given) or isinstance(given, (Operator, nn.Module))):
        raise PflowError(
            f"`gradient` belongs to a NumPy function, and `{what}` is a {type(given).__name__},"
            " which has its own: leave it out"
        )
    if isinstance(given, Operator):
        return given
    if isinstance(given, (np.ndarray, Tensor)):
        return MatrixOperator(torch.as_tensor(given, dtype=torch.float64))
    if isinstance(given, nn.Module):
        module = given.double()
        found = _tried(lambda: module(x), x, what)
        return ModuleOperator(module, shape, _data_shape(found, x, what))
    if hasattr(given, "rmatmat"):
        return LinearOperatorAdapter(given, model_shape=shape)
    if callable(getattr(given, "A", None)):
        found = _tried(lambda: given.A(x), x, what)
        return PhysicsOperator(given, shape, _data_shape(found, x, what))
    if not callable(given):
        raise PflowError(
            f"`{what}` (a {type(given).__name__}) must be a function x -> F(x), a matrix or an"
            " operator: docs/operators.md lists all of them"
        )
    return _from_function(given, x, gradient, batched, what)


def _from_function(
    function: Callable[..., Any],
    x: Tensor,
    gradient: Callable[..., Any] | None,
    batched: bool,
    what: str,
) -> Operator:
    """A function is one of torch if autograd can follow it, and otherwise one of NumPy."""
    shape = tuple(x.shape[1:])
    if gradient is None and _is_torch(function, x[0] if not batched else x):
        whole = _in_float64(function, batched)
        found = _tried(lambda: whole(x), x, what)
        operator: Operator = TorchOperator(whole, shape, _data_shape(found, x, what))
    else:
        arrays = x.numpy()
        if batched:
            found = _tried(lambda: function(arrays.copy()), x, what)
        else:
            found = _tried(lambda: np.stack([function(row.copy()) for row in arrays]), x, what)
        operator = NumPyOperator(
            function, shape, _data_shape(found, x, what), gradient, batched=batched
        )
    together, alone = operator(x), torch.cat([operator(x[i : i + 1]) for i in range(len(x))])
    if not torch.allclose(together, alone, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise PflowError(
            f"`{what}` must treat each model of a batch by itself, and gives other data for a batch"
            " than for its rows: compute along the later axes only, or write it for one model and"
            " set batched=False"
        )
    return operator


def _is_torch(function: Callable[..., Any], x: Tensor) -> bool:
    """Whether the function computes in torch; NumPy refuses a tensor with a gradient."""
    try:
        found = function(x.clone().requires_grad_())
    except Exception:  # a NumPy function may fail in any way; it is called with arrays next
        return False
    return isinstance(found, Tensor) and found.requires_grad


def _in_float64(function: Callable[..., Any], batched: bool) -> Callable[[Tensor], Tensor]:
    """The function of a batch in any dtype, computed in float64."""

    def whole(x: Tensor) -> Tensor:
        rows = x.double()
        found = function(rows) if batched else torch.stack([function(row) for row in rows])
        return found if found.is_complex() else found.to(x.dtype)

    return whole


def _tried(call: Callable[[], Any], x: Tensor, what: str) -> Any:
    try:
        with torch.no_grad():
            return call()
    except PflowError:
        raise
    except Exception as error:  # the user's code may raise anything
        hint = ": make constants with dtype=torch.float64" if "dtype" in str(error) else ""
        raise PflowError(
            f"`{what}` failed on a batch of {len(x)} models, shape {tuple(x.shape)}, float64"
            f" ({type(error).__name__}: {error}){hint}; for a function of one model set"
            " batched=False"
        ) from error


def _data_shape(found: Any, x: Tensor, what: str) -> tuple[int, ...]:
    """The shape of the data of one model, complex numbers as a last axis (real, imaginary)."""
    shape = tuple(np.shape(found.detach() if isinstance(found, Tensor) else found))
    if len(shape) < 2 or shape[0] != len(x):
        raise PflowError(
            f"`{what}` must map a batch of models (batch, *model) to data (batch, *data), and gave"
            f" the shape {shape} for {len(x)} models: return one row for each model, or write it"
            " for one model and set batched=False"
        )
    is_complex = found.is_complex() if isinstance(found, Tensor) else np.iscomplexobj(found)
    return (*shape[1:], *([2] if is_complex else []))
