"""Acoustic waves by deepwave: shots into a velocity model, recorded by receivers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.constant import Constant

__all__ = ["DeepwaveOperator"]


class DeepwaveOperator(Operator):
    r"""Recordings of the scalar wave equation :math:`v^{-2} \partial_t^2 u = \nabla^2 u + f` for a
    velocity model v, by `deepwave.scalar`.

    The model has one channel, (1, height, width), in the units of `spacing` and `time_step`; for a
    log-velocity compose with its exponential (`ComposedOperator`). Data are (shots, receivers,
    times). The time step inside depends on the largest velocity, so that one is fixed here, and
    models beyond it (or not above zero) are not valid: otherwise a model's data would depend on the
    others in its batch. `time_step` must not exceed it: deepwave would divide it, and sum its
    gradients at whole time steps only, with errors near 1 %.

    Arguments:
        grid: (height, width), in cells.
        spacing: side of a cell.
        time_step: of source and recordings.
        wavelet: the source in time, (times,), the same for each shot.
        sources: cell of each shot's source, (shots, 2).
        receivers: cells of the receivers, (receivers, 2), the same for each shot.
        largest_velocity: no valid model has a larger one.
        every: time steps from one datum to the next; the data are (shots, receivers, ceil(times /
            every)).
        **settings: of `deepwave.scalar`, such as accuracy, pml_width, pml_freq.

    Raises:
        PflowError: if deepwave is not installed, or the time step too long for the largest
            velocity.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        spacing: float,
        time_step: float,
        wavelet: Float[Tensor, " times"],
        sources: Int[Tensor, "shots 2"],
        receivers: Int[Tensor, "receivers 2"],
        largest_velocity: float,
        every: int = 1,
        **settings: Any,
    ) -> None:
        try:
            import deepwave  # noqa: F401
        except ImportError as error:
            raise PflowError(
                "DeepwaveOperator needs deepwave, and it is not installed: pip install"
                " 'pflow[wave]'"
            ) from error
        longest = 0.6 * spacing / (math.sqrt(2) * largest_velocity)
        if time_step > longest:
            raise PflowError(
                f"`time_step` (={time_step:g}) must be at most 0.6 `spacing` / (sqrt(2)"
                f" `largest_velocity`) (={longest:g}), where waves are stable: sample the wavelet"
                " more finely"
            )
        super().__init__((1, *grid), (len(sources), len(receivers), len(wavelet[::every])))
        self.sources = len(sources)
        self.spacing, self.time_step, self.largest_velocity, self.every, self.settings = (
            spacing,
            time_step,
            largest_velocity,
            every,
            settings,
        )
        self._wavelet, self._source_cells, self._receiver_cells = (
            Constant(wavelet),
            sources.cpu().long(),
            receivers.cpu().long(),
        )

    def valid(self, x: Float[Tensor, "batch 1 height width"]) -> Bool[Tensor, " batch"]:
        return ((x > 0) & (x <= self.largest_velocity)).flatten(1).all(1)

    def forward(
        self, x: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch shots receivers times"]:
        return self.forward_sources(x, torch.arange(self.sources).expand(len(x), -1))

    def forward_sources(
        self, x: Float[Tensor, "batch 1 height width"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k receivers times"]:
        import deepwave

        return self._recordings(x, sources, deepwave.scalar)

    def born(
        self, x: Float[Tensor, "1 1 height width"], change: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch shots receivers times"]:
        """The first-order change of the recordings for a small change of the velocities x: J(x)
        change, by `deepwave.scalar_born`.
        """
        import deepwave

        everywhere = torch.arange(self.sources).expand(len(change), -1)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", deepwave.MigrationWarning
            )  # tells how releases before 0.1 treated the outermost cells
            return self._recordings(
                x.expand_as(change),
                everywhere,
                deepwave.scalar_born,
                "sc_",
                dv=change[:, 0].repeat_interleave(self.sources, 0),
            )

    def _recordings(
        self,
        x: Tensor,
        sources: Tensor,
        propagate: Callable[..., Any],
        kind: str = "",
        **more: Tensor,
    ) -> Float[Tensor, "batch k receivers times"]:
        shots = sources.shape[1]
        at = self._source_cells[sources.flatten().cpu()][:, None].to(x.device)
        wavefields = propagate(
            x[:, 0].repeat_interleave(shots, 0),
            self.spacing,
            self.time_step,
            source_amplitudes=self._wavelet.like(x).expand(len(at), 1, -1),
            source_locations=at,
            **{
                f"{kind}receiver_locations": (
                    self._receiver_cells.expand(len(at), -1, -1).to(x.device)
                )
            },
            max_vel=self.largest_velocity,
            **more,
            **self.settings,
        )
        recorded = getattr(wavefields, f"{kind}receiver_amplitudes")
        return recorded[..., :: self.every].reshape(len(x), shots, *self.data_shape[1:])
