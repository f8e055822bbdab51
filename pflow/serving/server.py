"""`pflow serve`: the density of a posterior as a model of a UM-Bridge server, for other samplers.

What the protocol calls input is x, one vector; the output is log q(x given y_obs), one number, or
of a second model the logarithm of the unnormalised posterior density.

Reference:
    | UM-Bridge: Uncertainty quantification and modeling bridge (Seelinger et al., 2023)
    | https://doi.org/10.21105/joss.04748
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.serving.density import DeliveredDensity, delivered_density, run_with_posterior
from pflow.serving.target import target_density
from pflow.storage.layout import RunFolder

__all__ = ["DensityModel", "serve"]

POSTERIOR, TARGET = "posterior", "target"  # names of the models
SHOWN = 8  # parameters that are named
LOWEST = -sys.float_info.max


class Density(Protocol):
    """A log density with its gradient."""

    @property
    def differentiable(self) -> bool: ...

    def log_density(self, x: Tensor) -> Tensor:
        """Of a batch, (batch, size)."""

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of one x, (size,)."""


class DensityModel:
    """A log density of one vector as `umbridge.serve_models` wants a model.

    JSON has no infinity: a log density that is none is the lowest float, with the gradient 0.

    Arguments:
        name: of the model.
        density: what it answers.
        size: of x.
    """

    def __init__(self, name: str, density: Density, size: int) -> None:
        self.name, self.density, self.size = name, density, size

    def get_input_sizes(self, config: dict[str, Any]) -> list[int]:
        """One vector x."""
        return [self.size]

    def get_output_sizes(self, config: dict[str, Any]) -> list[int]:
        """One number."""
        return [1]

    def __call__(self, parameters: list[list[float]], config: dict[str, Any]) -> list[list[float]]:
        """[[log density]]."""
        value = self.density.log_density(_vector(parameters)[None])[0]
        return [[float(value) if value.isfinite() else LOWEST]]

    def gradient(
        self,
        out_wrt: int,
        in_wrt: int,
        parameters: list[list[float]],
        sens: list[float],
        config: dict[str, Any],
    ) -> list[float]:
        """sens times the gradient."""
        return (sens[0] * self._gradient(parameters)).tolist()

    def apply_jacobian(
        self,
        out_wrt: int,
        in_wrt: int,
        parameters: list[list[float]],
        vec: list[float],
        config: dict[str, Any],
    ) -> list[float]:
        """The derivative in the direction vec."""
        return [float(self._gradient(parameters) @ torch.tensor(vec, dtype=torch.float64))]

    def supports_evaluate(self) -> bool:
        """Yes."""
        return True

    def supports_gradient(self) -> bool:
        """Where the density has one."""
        return self.density.differentiable

    def supports_apply_jacobian(self) -> bool:
        """Where the density has a gradient."""
        return self.density.differentiable

    def supports_apply_hessian(self) -> bool:
        """No."""
        return False

    def _gradient(self, parameters: list[list[float]]) -> Tensor:
        value, gradient = self.density.value_and_gradient(_vector(parameters))
        defined = value.isfinite() and gradient.isfinite().all()
        return gradient if defined else torch.zeros_like(gradient)


def serve(folder: Path, port: int, with_target: bool = False) -> None:
    """Answer requests for the density of a run until SIGINT (Ctrl-C) or SIGTERM.

    Arguments:
        folder: of the run.
        port: of all addresses of this machine.
        with_target: whether log p(y_obs given x) + log p(x) is a second model.

    Raises:
        PflowError: no density is there (`delivered_density`, `target_density`), `umbridge` is not
            installed, or the port is taken.
    """
    if not 0 < port < 2**16:
        raise PflowError(f"`--port` (={port}) must be between 1 and 65535: choose another")
    try:
        import umbridge
    except ImportError as error:
        raise PflowError(
            "`pflow serve` needs the package umbridge, which is not installed: pip install umbridge"
        ) from error
    run = run_with_posterior(folder)
    density = delivered_density(run)
    models = [DensityModel(POSTERIOR, density, density.size)]
    if with_target:
        models.append(DensityModel(TARGET, target_density(run), density.size))
    print(instructions(run, density, port, with_target), flush=True)
    try:
        umbridge.serve_models(models, port)
    except OSError as error:
        raise PflowError(
            f"`--port` (={port}) must be free, and cannot be used"
            f" ({error.strerror or error}): choose another"
        ) from error


def instructions(run: RunFolder, density: DeliveredDensity, port: int, with_target: bool) -> str:
    """What is served, where, and how to call it."""
    names = ", ".join(density.names[:SHOWN]) + (", ..." if density.size > SHOWN else "")
    kind = " (coordinates without bounds, as `x` in the store)" if density.bounded else ""
    url = f"http://localhost:{port}"
    lines = [
        f"UM-Bridge server {url} for {run.folder}",
        f"model `{POSTERIOR}`: log q(x | y_obs), the density of its draws",
        f"model `{TARGET}`: log p(y_obs | x) + log p(x); a value costs a forward of the operator, a"
        " gradient an evaluation, which nobody counts",
        f"x: one vector of {density.size} numbers{kind}: {names}",
        "",
        "    import umbridge",
        f'    posterior = umbridge.HTTPModel("{url}", "{POSTERIOR}")',
        f"    x = [0.0] * {density.size}",
        "    posterior([x])[0][0]                      # log q(x | y_obs)",
        "    posterior.gradient(0, 0, [x], [1.0])      # its gradient",
        "",
        "It answers at every address of this machine. Ctrl-C ends it.",
    ]
    return "\n".join(lines if with_target else lines[:2] + lines[3:])


def _vector(parameters: list[list[float]]) -> Tensor:
    return torch.tensor(parameters[0], dtype=torch.float64)
