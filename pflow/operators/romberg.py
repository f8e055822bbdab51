r"""Compressed sensing by random convolution (Romberg 2009, SIAM J. Imaging Sci. 2, 1098,
https://doi.org/10.1137/08072975X).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.constant import Constant

__all__ = ["RombergOperator"]


class RombergOperator(Operator):
    r"""A random convolution of the whole image, of which some entries are kept, without ever
    forming a matrix.

    .. math::
        R x = (H x)_{kept}, \qquad H = F^{-1} \mathrm{diag}(e^{i \theta}) F

    with F the DFT of the flattened image and theta uniform phases, odd in frequency so that H x is
    real. H is orthogonal, so
    :math:`R R^\top = I`, and :math:`A = R^\top R` is a symmetric projector: :math:`A = A^\top =
    A^2`.

    Arguments:
        shape: of one image, (channels, height, width).
        ratio: parameters for each measurement: 2 keeps half of the entries; 1 all of them.
        seed: of the phases and of the kept entries.
        measurements: True for the measurements R x, a vector; False for their back-projection A x,
            an image, as in the paper.

    Raises:
        PflowError: for a ratio below 1.
    """

    linear = True

    def __init__(
        self, shape: Sequence[int], ratio: float = 2.0, seed: int = 0, measurements: bool = False
    ) -> None:
        size = math.prod(shape)
        if not 1 <= ratio <= size:
            raise PflowError(
                f"`ratio` (={ratio}) of a random convolution must be from 1 (nothing is left out)"
                f" to the {size} parameters"
            )
        kept = math.ceil(size / ratio)
        super().__init__(model_shape=shape, data_shape=(kept,) if measurements else shape)
        generator = torch.Generator().manual_seed(seed)
        phase = 2 * math.pi * torch.rand(size // 2 + 1, generator=generator, dtype=torch.float64)
        phase[0] = 0.0  # frequencies without a partner of opposite sign have a real factor
        if size % 2 == 0:
            phase[-1] = 0.0
        kept_entries = torch.randperm(size, generator=generator)[:kept].sort().values
        self.measurements, self.size, self.ratio = measurements, size, ratio
        self._cosine, self._sine = Constant(torch.cos(phase)), Constant(torch.sin(phase))
        self._kept = {torch.device("cpu"): kept_entries}

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        measured = self.measure(x)
        return measured if self.measurements else self.back_project(measured)

    def adjoint(self, v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        return self.back_project(v) if self.measurements else self.forward(v)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        return self.adjoint(v)

    def measure(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch kept"]:
        """R x."""
        return self._convolve(x.flatten(1), 1.0)[:, self._kept_on(x.device)]

    def back_project(self, b: Float[Tensor, "batch kept"]) -> Float[Tensor, "batch *model"]:
        """R^T b: zeros where nothing was kept, and the inverse convolution."""
        full = b.new_zeros(len(b), self.size).index_copy(1, self._kept_on(b.device), b)
        return self._convolve(full, -1.0).view(len(b), *self.model_shape)

    def _convolve(
        self, vectors: Float[Tensor, "batch size"], direction: float
    ) -> Float[Tensor, "batch size"]:
        """H v, or for direction -1 its inverse and transpose."""
        factor = torch.complex(self._cosine.like(vectors), direction * self._sine.like(vectors))
        return torch.fft.irfft(factor * torch.fft.rfft(vectors), n=self.size)

    def _kept_on(self, device: torch.device) -> Tensor:
        if device not in self._kept:
            self._kept[device] = self._kept[torch.device("cpu")].to(device)
        return self._kept[device]
