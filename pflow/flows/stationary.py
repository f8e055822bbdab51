"""`stationary`: a Gaussian of images, close to a stationary one, without matrices of all pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.flows.base import Flow
from pflow.flows.principal import PrincipalAffine

__all__ = ["StationaryFlow"]


class StationaryFlow(Flow):
    r"""The flow :math:`x = S\,(m + R z)`, :math:`z \sim N(0, I)`: S the root of a stationary
    covariance, which the DFT diagonalises, and R the identity but for r directions
    (`PrincipalAffine`).

    The posterior of an image under a stationary Gaussian prior :math:`N(0, S^2)` and a linear F
    that is known in r directions of the data is of this kind, exactly. Samples, densities and the
    inverse cost O(D r + D log D) for D pixels.

    Example:
        >>> flow = StationaryFlow((1, 2, 2), (1,))
        >>> flow.set_prior(torch.full((1, 2, 2), 4.0))
        >>> flow.sample(torch.zeros(1, 1), 1000).std().round().item()
        2.0
    """

    amplitude: Tensor

    def __init__(self, model_shape: Sequence[int], data_shape: Sequence[int]) -> None:
        super().__init__(model_shape, data_shape)
        self.register_buffer("amplitude", torch.ones(self.model_shape))
        self.principal = PrincipalAffine(self.amplitude.numel())
        self.initialised.fill_(True)

    @torch.no_grad()
    def set_prior(self, spectrum: Float[Tensor, "*model"]) -> None:
        """S, from the variance of each frequency."""
        self.amplitude.copy_(spectrum.sqrt())

    def forward(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        white = _filtered(x, 1 / self.amplitude).flatten(1)
        z, log_determinant = self.principal.undo(white)
        return z.view_as(x), -(log_determinant + self._log_amplitude).expand(len(x))

    def inverse(
        self, z: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        white, log_determinant = self.principal(z.flatten(1))
        x = _filtered(white.view_as(z), self.amplitude)
        return x, (log_determinant + self._log_amplitude).expand(len(z))

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Nothing depends on the data."""

    @property
    def _log_amplitude(self) -> Tensor:
        return self.amplitude.double().log().sum().to(self.amplitude)


def _filtered(x: Tensor, amplitude: Tensor) -> Tensor:
    """Each frequency of x times a number."""
    return torch.fft.ifft2(amplitude * torch.fft.fft2(x)).real
