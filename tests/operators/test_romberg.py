"""The random convolution: an exact projector, an exact adjoint, and the checks of any operator."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import check_operator, dense_matrix
from pflow.operators.romberg import RombergOperator

SHAPES = [((1, 8, 8), 2.0), ((1, 7, 5), 3.0), ((2, 6, 4), 1.5), ((1, 4, 4), 1.0)]


@pytest.mark.parametrize(("shape", "ratio"), SHAPES)
def test_images_are_a_symmetric_projection(shape, ratio):
    matrix = dense_matrix(RombergOperator(shape, ratio, seed=3))
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix @ matrix, matrix)
    size = matrix.shape[0]
    assert round(float(matrix.trace())) == -(-size // ratio)  # the rank of a projector


@pytest.mark.parametrize(("shape", "ratio"), SHAPES)
def test_measurements_have_orthonormal_rows_and_make_the_projector(shape, ratio):
    rows = dense_matrix(RombergOperator(shape, ratio, seed=3, measurements=True))
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64))
    torch.testing.assert_close(rows.T @ rows, dense_matrix(RombergOperator(shape, ratio, seed=3)))


@pytest.mark.parametrize("measurements", [False, True])
def test_it_passes_the_checks_of_an_operator(measurements):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 1, 16, 16, generator=generator)
    check_operator(RombergOperator((1, 16, 16), 2.0, measurements=measurements), x, generator)


def test_autograd_goes_through_the_adjoint():
    operator = RombergOperator((1, 6, 6), 2.0, seed=1, measurements=True)
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator, (x,))


def test_it_spreads_a_point_over_all_measurements():
    """What makes any entries as good as any others: no coordinate of a point's image stands out."""
    spread = dense_matrix(RombergOperator((1, 16, 16), 1.0, seed=2, measurements=True))[:, 100]
    assert spread.abs().max() < 5 / 16  # five standard deviations of 256 equal shares


def test_seeds_are_different_operators():
    x = torch.ones(1, 1, 8, 8) + torch.arange(8.0)
    assert not torch.equal(
        RombergOperator((1, 8, 8), seed=0)(x), RombergOperator((1, 8, 8), seed=1)(x)
    )
    torch.testing.assert_close(
        RombergOperator((1, 8, 8), seed=1)(x), RombergOperator((1, 8, 8), seed=1)(x)
    )


def test_a_ratio_below_one_is_refused():
    with pytest.raises(PflowError, match="ratio"):
        RombergOperator((1, 8, 8), 0.5)
