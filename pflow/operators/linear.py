"""Linear operators: matrices and the identity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.constant import Constant

__all__ = ["IdentityOperator", "MatrixOperator", "dense_matrix", "unit_spectral_norm"]


class MatrixOperator(Operator):
    r"""The map :math:`F(x) = A x` of vectors, with adjoint :math:`A^\top v`.

    Arguments:
        matrix: A, with shape (data, model); kept in float64 and applied in the dtype of the input.

    Raises:
        PflowError: if `matrix` is not a matrix.

    Example:
        >>> F = MatrixOperator(torch.tensor([[1.0, 2.0]]))
        >>> F(torch.ones(1, 2)), F.adjoint(torch.ones(1, 1))
        (tensor([[3.]]), tensor([[1., 2.]]))
    """

    linear = True

    def __init__(self, matrix: Float[Tensor, "data model"]) -> None:
        if matrix.ndim != 2:
            raise PflowError(
                f"`matrix` must have two axes (data, model), and has shape {tuple(matrix.shape)}:"
                " reshape it"
            )
        rows, columns = matrix.shape
        super().__init__(model_shape=(columns,), data_shape=(rows,))
        self._matrix = Constant(matrix)

    @property
    def matrix(self) -> Float[Tensor, "data model"]:
        """A, in float64."""
        return self._matrix.value

    def forward(self, x: Float[Tensor, "batch model"]) -> Float[Tensor, "batch data"]:
        return x @ self._matrix.like(x).T

    def adjoint(self, v: Float[Tensor, "batch data"]) -> Float[Tensor, "batch model"]:
        return v @ self._matrix.like(v)


class IdentityOperator(Operator):
    r"""The map :math:`F(x) = x`: the data are the model itself.

    Arguments:
        shape: the shape of one model, and of its data.

    Example:
        >>> IdentityOperator((2,))(torch.tensor([[1.0, 3.0]]))
        tensor([[1., 3.]])
    """

    linear = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(model_shape=shape, data_shape=shape)

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *model"]:
        return x

    def adjoint(self, v: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *model"]:
        return v


def dense_matrix(operator: Operator) -> Float[Tensor, "data model"]:
    """The matrix of a linear operator in float64, over flattened models and data: its columns are F
    of the unit vectors.

    Raises:
        PflowError: if the operator is not linear.
    """
    if not operator.linear:
        raise PflowError(
            f"only a linear operator has a matrix, and `{type(operator).__name__}.linear` is False"
        )
    size = math.prod(operator.model_shape)
    unit_vectors = torch.eye(size, dtype=torch.float64).reshape(size, *operator.model_shape)
    return operator(unit_vectors).reshape(size, -1).T


def unit_spectral_norm(matrix: Float[Tensor, "data model"]) -> Float[Tensor, "data model"]:
    """The matrix divided by its largest singular value."""
    return matrix / torch.linalg.matrix_norm(matrix, ord=2)
