"""The density of a delivered posterior, log q(x given y_obs), with its gradient, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.stages.io.weights import load_flow
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import POSTERIOR, RunFolder, root_file, whole

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["DeliveredDensity", "delivered_density", "run_with_posterior"]

COMPARED = 16  # draws of the store whose log q is computed again
# Largest difference that float32 explains, for each unit of |log q| and each parameter
ROUNDING = 1e-4


@dataclass(frozen=True)
class DeliveredDensity:
    """log q(x given y_obs) of a flow at one observation; x are the coordinates of the store's `x`.

    Attributes:
        flow: the flow, corrections included, in float64.
        summary: what it sees of y_obs, (1, *summary).
        names: of the parameters.
        bounded: whether x are coordinates without bounds of `physical` parameters.
    """

    differentiable: ClassVar[bool] = True
    flow: Flow
    summary: Float[Tensor, "1 *summary"]
    names: tuple[str, ...]
    bounded: bool

    @property
    def size(self) -> int:
        """D, the number of parameters."""
        return len(self.names)

    @torch.no_grad()
    def log_density(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        """log q(x given y_obs), x flat."""
        return self._log_density(x)

    def value_and_gradient(
        self, x: Float[Tensor, " size"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " size"]]:
        """log q at one x, and its gradient."""
        with torch.enable_grad():
            x = x.detach()[None].requires_grad_()
            value = self._log_density(x)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach()[0], gradient[0]

    def _log_density(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x.double().reshape(-1, *self.flow.model_shape), self.summary)


def run_with_posterior(folder: Path) -> RunFolder:
    """The run in a folder, `results/EXPERIMENT/posteriors/OBSERVATION/METHOD/seed-0`, or of its
    `posterior.zarr`.

    Raises:
        PflowError: it has no posterior.
    """
    folder = whole(folder)
    run = RunFolder(folder.parent if folder.name == POSTERIOR else folder)
    if not root_file(run.posterior).is_file():
        raise PflowError(
            f"{run.folder} must be the folder of a run with its {POSTERIOR}: name one such as"
            " results/EXPERIMENT/posteriors/OBSERVATION/METHOD/seed-0, after snakemake or"
            " pflow.infer"
        )
    return run


def delivered_density(run: RunFolder) -> DeliveredDensity:
    """The density whose draws and `log_q` lie in the posterior store of a run.

    Raises:
        PflowError: there is no flow, or it is not the one that made the draws.
    """
    if not run.weights.is_file():
        raise PflowError(
            f"{run.folder} must hold the flow of its posterior, {run.weights.name}: run snakemake"
            " again, or copy it from where the posterior was made"
        )
    flow, _ = load_flow(run.weights, torch.device("cpu"))
    flow = flow.double().eval().requires_grad_(False)
    tree = read_datatree(run.posterior)
    drawn, observed = (tree[group].to_dataset() for group in ("posterior", "observed_data"))
    summary = observed["summary" if "summary" in observed else "y"].values
    density = DeliveredDensity(
        flow,
        torch.from_numpy(summary).double()[None],
        _names(drawn["x"]),
        "physical" in drawn,
    )
    log_q = tree["sample_stats"].to_dataset()["log_q"]
    _require_same(density, drawn["x"].values[0], log_q.values[0], run)
    return density


def _names(x: DataArray) -> tuple[str, ...]:
    """The labels of a vector x, or its indices."""
    labels = x.coords[x.dims[2]].values if x.ndim == 3 else range(x[0, 0].size)
    return tuple(map(str, labels))


def _require_same(
    density: DeliveredDensity, x: np.ndarray, log_q: np.ndarray, run: RunFolder
) -> None:
    """Refuse weights that were trained again after the draws x of the store."""
    stored = torch.from_numpy(log_q[:COMPARED]).double()
    computed = density.log_density(torch.from_numpy(x[:COMPARED]).flatten(1))
    missed = (computed - stored).abs()
    if not (missed / (stored.abs() + density.size)).median() < ROUNDING:
        raise PflowError(
            f"{run.weights} must be the flow that made the draws of {run.posterior}, and its log"
            f" densities differ by {float(missed.median()):.3g} nats: run snakemake to its end"
        )
