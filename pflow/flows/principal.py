r"""An affine map of many unknowns: the identity but for some principal directions.

A dense Gaussian of D unknowns needs D^2 numbers and D^3 operations. Where D is the size of an
image, the Gaussian is kept as the identity and what r directions differ by from it: every operation
costs O(D r).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PrincipalAffine"]

SMALL = 1e-7  # log of a standard deviation below which a direction is like the others


class PrincipalAffine(nn.Module):
    r"""The map :math:`w \mapsto m + s\, (I + Q\,\mathrm{diag}(e^c - 1)\,Q^\top) w`, Q with r
    orthonormal columns, set in closed form; the identity at first, with r = 0.

    It is symmetric, its inverse has -c for c and 1/s for s, and :math:`\log\det = D \log s + \sum
    c`. It has as many columns as were set, or as the weights that are loaded have.

    Arguments:
        size: number of unknowns D.

    Example:
        >>> latent = PrincipalAffine(3)
        >>> latent.set_covariance(torch.ones(3), torch.eye(3)[:, :1], torch.tensor([4.0]))
        >>> latent(torch.ones(1, 3))[0].tolist()  # standard deviations 2, 1, 1 around 1
        [[3.0, 2.0, 2.0]]
    """

    directions: Tensor
    log_stretch: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.register_buffer("directions", torch.zeros(size, 0))
        self.register_buffer("log_stretch", torch.zeros(0))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and its log determinant."""
        return self.mean + self.pull(w), self._log_determinant()

    def undo(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse map, and the log determinant of the map itself."""
        return self._stretched(z - self.mean, -self.log_stretch) / self.scale, (
            self._log_determinant()
        )

    def pull(self, gradient: Tensor) -> Tensor:
        """A gradient by the image of the map as one by w."""
        return self.scale * self._stretched(gradient, self.log_stretch)

    def freeze(self) -> None:
        """From here on the map is set in closed form and not trained."""
        self.requires_grad_(False)

    @torch.no_grad()
    def set_covariance(self, mean: Tensor, directions: Tensor, variances: Tensor) -> None:
        """Make the image of N(0, I) N(mean, I + Q diag(variances - 1) Q^T); directions that are
        like the others are left out.
        """
        log_stretch = 0.5 * variances.double().log()
        kept = log_stretch.abs() > SMALL
        self.mean.copy_(mean)
        self.directions = directions[:, kept].to(self.mean).contiguous()
        self.log_stretch = log_stretch[kept].to(self.mean)
        self.scale.fill_(1.0)

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Multiply the map by a number, around its mean."""
        self.scale.mul_(factor)

    def _stretched(self, w: Tensor, log_stretch: Tensor) -> Tensor:
        directions = self.directions.to(w)
        return w + (w @ directions * torch.expm1(log_stretch).to(w)) @ directions.T

    def _log_determinant(self) -> Tensor:
        return len(self.mean) * self.scale.log() + self.log_stretch.sum()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("directions", "log_stretch"):
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].to(self.mean, copy=True))
        super()._load_from_state_dict(state_dict, prefix, *args)
