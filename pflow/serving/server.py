"""`pflow serve`: the density of a posterior as a model of a UM-Bridge server, for other samplers.

What the protocol calls input is x, one vector; the output is log q(x given y_obs), one number.

Reference:
    | UM-Bridge: Uncertainty quantification and modeling bridge (Seelinger et al., 2023)
    | https://doi.org/10.21105/joss.04748
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from pflow.errors import PflowError
from pflow.serving.density import DeliveredDensity, delivered_density

__all__ = ["MODEL", "PosteriorModel", "serve"]

MODEL = "posterior"
SHOWN = 8  # parameters that are named
LOWEST = -sys.float_info.max


class PosteriorModel:
    """log q(x given y_obs) as `umbridge.serve_models` wants a model.

    JSON has no infinity: a log density that is none is the lowest float, with the gradient 0.
    """

    def __init__(self, density: DeliveredDensity) -> None:
        self.name, self.density = MODEL, density

    def get_input_sizes(self, config: dict[str, Any]) -> list[int]:
        """One vector x."""
        return [self.density.size]

    def get_output_sizes(self, config: dict[str, Any]) -> list[int]:
        """One number."""
        return [1]

    def __call__(self, parameters: list[list[float]], config: dict[str, Any]) -> list[list[float]]:
        """[[log q(x)]]."""
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
        """sens times the gradient of log q."""
        return (sens[0] * self._gradient(parameters)).tolist()

    def apply_jacobian(
        self,
        out_wrt: int,
        in_wrt: int,
        parameters: list[list[float]],
        vec: list[float],
        config: dict[str, Any],
    ) -> list[float]:
        """The derivative of log q in the direction vec."""
        return [float(self._gradient(parameters) @ torch.tensor(vec, dtype=torch.float64))]

    def supports_evaluate(self) -> bool:
        """Yes."""
        return True

    def supports_gradient(self) -> bool:
        """Yes."""
        return True

    def supports_apply_jacobian(self) -> bool:
        """Yes."""
        return True

    def supports_apply_hessian(self) -> bool:
        """No."""
        return False

    def _gradient(self, parameters: list[list[float]]) -> torch.Tensor:
        value, gradient = self.density.value_and_gradient(_vector(parameters))
        defined = value.isfinite() and gradient.isfinite().all()
        return gradient if defined else torch.zeros_like(gradient)


def serve(folder: Path, port: int) -> None:
    """Answer requests for the density of a run until SIGINT (Ctrl-C) or SIGTERM.

    Arguments:
        folder: of the run.
        port: of all addresses of this machine.

    Raises:
        PflowError: no density is there (`delivered_density`), `umbridge` is not installed, or the
            port is taken.
    """
    if not 0 < port < 2**16:
        raise PflowError(f"`--port` (={port}) must be between 1 and 65535: choose another")
    try:
        import umbridge
    except ImportError as error:
        raise PflowError(
            "`pflow serve` needs the package umbridge, which is not installed: pip install umbridge"
        ) from error
    density = delivered_density(folder)
    print(instructions(folder, density, port), flush=True)
    try:
        umbridge.serve_models([PosteriorModel(density)], port)
    except OSError as error:
        raise PflowError(
            f"`--port` (={port}) must be free, and cannot be used"
            f" ({error.strerror or error}): choose another"
        ) from error


def instructions(folder: Path, density: DeliveredDensity, port: int) -> str:
    """What is served, where, and how to call it."""
    names = ", ".join(density.names[:SHOWN]) + (", ..." if density.size > SHOWN else "")
    kind = " (coordinates without bounds, as `x` in the store)" if density.bounded else ""
    url = f"http://localhost:{port}"
    return f"""log q(x | y_obs) of {folder} is the model `{MODEL}` of the UM-Bridge server {url}
x: one vector of {density.size} numbers{kind}: {names}

    import umbridge
    posterior = umbridge.HTTPModel("{url}", "{MODEL}")
    x = [0.0] * {density.size}
    posterior([x])[0][0]                      # log q(x | y_obs)
    posterior.gradient(0, 0, [x], [1.0])      # its gradient

It answers at every address of this machine. Ctrl-C ends it."""


def _vector(parameters: list[list[float]]) -> torch.Tensor:
    return torch.tensor(parameters[0], dtype=torch.float64)
