"""The Gaussian of a model's posterior where the model has run away."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.surrogate.gaussian import gauss_newton


class Linear:
    """The posterior of data J v under unit noise and a unit prior, as a model of F."""

    def __init__(self, jacobian: torch.Tensor) -> None:
        self._jacobian = jacobian

    def jacobian(self, v: torch.Tensor) -> torch.Tensor:
        return self._jacobian

    def value_and_score(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        score = -v - v @ self._jacobian.T @ self._jacobian
        return 0.5 * (v * score).sum(1), score


@pytest.mark.parametrize("size", [1.0, 1e9])
def test_the_precision_keeps_the_prior_beside_the_largest_jacobian(size):
    jacobian = size * torch.randn(
        5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    root = gauss_newton(Linear(jacobian), torch.zeros(8, dtype=torch.float64)).factor

    precision = torch.eye(8, dtype=torch.float64) + jacobian.T @ jacobian
    assert torch.allclose(root @ root.T / size**2, precision / size**2, rtol=1e-12, atol=1e-12)
    assert torch.equal(root, root.tril()) and (root.diagonal() > 0).all()
    # Three directions are not seen by the data: there the precision is the prior's.
    assert torch.allclose(
        torch.linalg.svdvals(root)[5:], torch.ones(3, dtype=torch.float64), atol=1e-6
    )
