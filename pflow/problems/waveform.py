"""Full-waveform inversion between two wells: velocities from everything that receivers record, by
the acoustic wave equation.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pflow.operators import ComposedOperator, Constant
from pflow.operators.born import BornWaves
from pflow.operators.waves import DeepwaveOperator
from pflow.problems.crosswell import Crosswell, wells_of
from pflow.problems.priors import MaternField
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["Waveform"]

FASTEST = 2.0  # times the background: no velocity of a valid model is larger
# Of the data, at the peak frequency; a Ricker wavelet has negligible energy above three times that
# frequency
SAMPLES_PER_PERIOD = 12.0
ABSORBING_CELLS = 8


class Waveform(Crosswell):
    r"""Full-waveform inversion of log-velocities between two wells: the Born approximation, and the
    acoustic wave equation (needs `pip install 'pflow[wave]'`).

    The section between the wells has the velocity :math:`v = v_0 e^x` on side x side cells,
    flattened row by row. x is a Matern field of smoothness 3/2,
    :math:`C_{ij} = \varsigma^2 (1 + \sqrt 3 r_{ij} / \ell)\, e^{- \sqrt 3 r_{ij} / \ell}`. Sources
    stand evenly in the left-most column of cells, receivers in the right-most one. The data are the
    pressures that each receiver records from each source, in units of the standard deviation of the
    recordings in the background v0: at high fidelity by the acoustic wave equation (deepwave), at
    low fidelity by its Born approximation, which has single scattering and unchanged arrival times.

    Flows are conditioned on the mean of the posterior under the Born approximation (regularised
    least-squares migration), :math:`C J^\top (J C J^\top + \sigma^2)^{-1} (y - F(0))`, an image of
    the shape of x: under that approximation it is a sufficient statistic of y.

    Arguments:
        side: cells along each side of the section: the model has side * side parameters.
        spacing_m: side of a cell in metres.
        velocity_m_s: background velocity v0 in metres per second.
        frequency_hz: peak frequency of the sources' Ricker wavelet.
        sources: sources in the left well.
        receivers: receivers in the right well.
        std: standard deviation of the logarithm of the velocity under the prior.
        length_m: correlation length of the prior (Matern, smoothness 3/2) in metres.
        noise_std: standard deviation of the noise on each sample; recordings in the background have
            the standard deviation 1.

    Raises:
        PflowError: for impossible values, or without deepwave.
    """

    name = "waveform"
    low_fidelity: BornWaves
    prior: MaternField
    noise_std: float

    @checked_settings
    def __init__(
        self,
        # The Jacobian is dense.
        side: Annotated[int, setting(minimum=4, maximum=32)] = 16,
        spacing_m: Annotated[float, setting(above=0)] = 10.0,
        velocity_m_s: Annotated[float, setting(above=0)] = 2000.0,
        frequency_hz: Annotated[float, setting(above=0)] = 15.0,
        sources: Annotated[int, setting(minimum=1)] = 6,
        receivers: Annotated[int, setting(minimum=1)] = 8,
        std: Annotated[float, setting(above=0)] = 0.1,
        length_m: Annotated[float, setting(above=0)] = 30.0,
        noise_std: Annotated[float, setting(above=0)] = 0.2,
    ) -> None:
        waves = _waves(
            side,
            spacing_m,
            velocity_m_s,
            frequency_hz,
            wells_of(side, sources, receivers),
        )
        super().__init__(
            side,
            spacing_m,
            std,
            length_m,
            low_fidelity=BornWaves(waves, velocity_m_s),
            high_fidelity=ComposedOperator(
                waves,
                lambda x: velocity_m_s * torch.exp(x).view(-1, *waves.model_shape),
                self.model_shape_of(side),
            ),
            noise_std=noise_std,
        )

    def summary(
        self, y: Float[Tensor, "batch sources receivers times"]
    ) -> Float[Tensor, "batch cells"]:
        """The posterior mean under the Born approximation."""
        return (y - self.low_fidelity.background.like(y)).flatten(1) @ self._migration.like(y)

    @cached_property
    def _migration(self) -> Constant:
        """C J^T (J C J^T + sigma^2)^-1, transposed: (data, cells), by the root L of C, through a
        matrix of the size of the model alone.
        """
        root = self.prior.root
        seen = root.T @ self.low_fidelity.jacobian.value / self.noise_std
        precision = torch.eye(len(root), dtype=torch.float64) + seen @ seen.T
        return Constant((root @ torch.linalg.solve(precision, seen / self.noise_std)).T)


def _waves(
    side: int,
    spacing: float,
    velocity: float,
    frequency: float,
    wells: dict[str, Int[Tensor, "count 2"]],
) -> DeepwaveOperator:
    """Recordings from before the first wave until the last has crossed the section, with a standard
    deviation of 1 in the background.
    """
    step = 0.6 * spacing / (math.sqrt(2) * FASTEST * velocity)
    peak = 1.2 / frequency
    times = (
        torch.arange(math.ceil((2 * peak + math.sqrt(2) * side * spacing / velocity) / step)) * step
    )
    phase = (math.pi * frequency * (times - peak)).square()
    ricker = (1 - 2 * phase) * torch.exp(-phase)

    def recorded_of(wavelet: Tensor) -> DeepwaveOperator:
        every = max(1, math.floor(1 / (SAMPLES_PER_PERIOD * frequency * step)))
        return DeepwaveOperator(
            (side, side),
            spacing,
            step,
            wavelet,
            **wells,
            largest_velocity=FASTEST * velocity,
            every=every,
            pml_width=ABSORBING_CELLS,
            pml_freq=frequency,
        )

    waves = recorded_of(ricker)
    return recorded_of(ricker / waves(torch.full((1, *waves.model_shape), velocity)).std())
