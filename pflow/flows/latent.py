"""`latent_gaussian`: a frozen flow whose latent is N(m, A A^T) instead of N(0, I).

Fine-tuning then learns m and A alone: few parameters, which few evaluations determine, but
restricted to affine maps of the latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pflow.errors import PflowError
from pflow.flows.base import Flow, as_flow
from pflow.flows.principal import PrincipalAffine

__all__ = ["DenseAffine", "LatentGaussian", "LowRankAffine"]


class LatentGaussian(Flow):
    r"""The flow :math:`x = T^{-1}(m + A w; y)`, :math:`w \sim N(0, I)`, with T frozen.

    Arguments:
        base: the flow T, as arguments of `build_flow`, or built.
        covariance: "diagonal", "low_rank" (diagonal plus rank `rank`), "dense", or "principal", the
            identity but for directions that are set in closed form (`PrincipalAffine`).
        rank: directions of the low-rank part.

    References:
        | Reliable amortized variational inference with physics-based latent distribution correction
        (Siahkoohi et al., 2023)
        | https://arxiv.org/abs/2207.11640

    Example:
        >>> shapes = {"model_shape": (3,), "data_shape": (2,)}
        >>> base = {"name": "coupling", **shapes, "depth": 2, "hidden": 8}
        >>> flow = LatentGaussian((3,), (2,), base=base, covariance="dense")
        >>> [name for name, weight in flow.named_parameters() if weight.requires_grad]
        ['latent.mean', 'latent.log_diagonal', 'latent.below']
    """

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        base: Mapping[str, Any] | Flow,
        covariance: str = "low_rank",
        rank: int = 8,
    ) -> None:
        super().__init__(model_shape, data_shape)
        base = as_flow(base)
        size = math.prod(self.model_shape)
        kinds: dict[str, Callable[[], LowRankAffine | DenseAffine | PrincipalAffine]] = {
            "diagonal": lambda: LowRankAffine(size, 0),
            "low_rank": lambda: LowRankAffine(size, min(rank, size)),
            "dense": lambda: DenseAffine(size),
            "principal": lambda: PrincipalAffine(size),
        }
        if covariance not in kinds:
            raise PflowError(
                f"`covariance` (='{covariance}') of a latent_gaussian flow must be one of"
                f" {', '.join(kinds)}: choose one of these"
            )
        if rank < 0:
            raise PflowError(
                f"`rank` (={rank}) of a latent_gaussian flow must be at least 0: give the number of"
                " directions"
            )
        self.base = base.requires_grad_(False)
        self.latent: LowRankAffine | DenseAffine | PrincipalAffine = kinds[covariance]()
        self.initialised.fill_(True)

    @property
    def closed(self) -> DenseAffine | PrincipalAffine:
        """The latent, which is set in closed form."""
        assert not isinstance(self.latent, LowRankAffine), "the latent is not learnt by gradients"
        return self.latent

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z, log_determinant = self.base(x, y)
        w, latent_log_determinant = self.latent.undo(z.flatten(1))
        return w.view_as(z), log_determinant - latent_log_determinant

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        moved, latent_log_determinant = self.latent(z.flatten(1))
        x, log_determinant = self.base.inverse(moved.view_as(z), y)
        return x, log_determinant + latent_log_determinant

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Nothing depends on the data."""


class DenseAffine(nn.Module):
    r"""The map :math:`w \mapsto m + L w` with L lower triangular and of positive diagonal; the
    identity at first.

    Arguments:
        size: number of unknowns D; L has D^2 entries.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.log_diagonal = nn.Parameter(torch.zeros(size))
        self.below = nn.Parameter(torch.zeros(size, size))
        self.trained = True
        self._factor: Tensor | None = None  # L, once built, while it is set in closed form alone

    def freeze(self) -> None:
        """From here on the map is set in closed form and not trained: L, which may have millions of
        entries, is built once.
        """
        self.requires_grad_(False)
        self.trained = False

    @property
    def factor(self) -> Tensor:
        """L."""
        if self._factor is not None:
            return self._factor
        factor = self.below.tril(-1) + torch.diag(self.log_diagonal.exp())
        if not self.trained:
            self._factor = factor
        return factor

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """m + L w and log det L."""
        return self.mean + w @ self.factor.T, self.log_diagonal.sum()

    def undo(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """L^{-1} (z - m) and log det L."""
        return (
            torch.linalg.solve_triangular(self.factor.to(z), (z - self.mean).T, upper=False).T,
            self.log_diagonal.sum(),
        )

    def pull(self, gradient: Tensor) -> Tensor:
        """A gradient by the image of the map as one by w."""
        return gradient @ self.factor.to(gradient)

    def set_moments(self, mean: Tensor, covariance: Tensor) -> None:
        """Make the latent N(mean, covariance)."""
        self.set_root(mean, torch.linalg.cholesky(covariance.double()))

    @torch.no_grad()
    def set_root(self, mean: Tensor, factor: Tensor) -> None:
        """m and L, lower triangular with a positive diagonal."""
        self._factor = None
        self.mean.copy_(mean)
        self.log_diagonal.copy_(factor.diagonal().log())
        self.below.copy_(factor.tril(-1))

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Multiply L by a number."""
        self._factor = None
        self.log_diagonal.add_(math.log(factor))
        self.below.mul_(factor)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._factor = None
        super()._load_from_state_dict(*args)

    def _apply(self, *args: Any, **keywords: Any) -> DenseAffine:
        self._factor = None
        return super()._apply(*args, **keywords)


class LowRankAffine(nn.Module):
    r"""The map :math:`w \mapsto m + s \odot (I + Q\,\mathrm{diag}(e^c - 1)\,Q^T) w`, Q with r
    orthonormal columns; the identity at first.

    Its covariance is a scaled identity plus rank r, and inverse and determinant cost O(D r):
    the inverse has -c for c, and log det = sum log s + sum c.

    Arguments:
        size: number of unknowns D.
        rank: r; 0 leaves the diagonal.
    """

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.directions = nn.Parameter(torch.randn(size, rank)) if rank else None
        self.log_stretch = nn.Parameter(torch.zeros(rank)) if rank else None

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The map and its log determinant."""
        if self.log_stretch is not None:
            w = self._stretched(w, self.log_stretch)
        return self.mean + w * self.log_scale.exp(), self._log_determinant()

    def undo(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse map, and the log determinant of the map itself."""
        w = (z - self.mean) * torch.exp(-self.log_scale)
        if self.log_stretch is not None:
            w = self._stretched(w, -self.log_stretch)
        return w, self._log_determinant()

    def _stretched(self, w: Tensor, log_stretch: Tensor) -> Tensor:
        basis = torch.linalg.qr(self.directions).Q
        return w + (w @ basis * torch.expm1(log_stretch)) @ basis.T

    def _log_determinant(self) -> Tensor:
        total = self.log_scale.sum()
        return total if self.log_stretch is None else total + self.log_stretch.sum()
