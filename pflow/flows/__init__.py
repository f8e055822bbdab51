"""Conditional invertible networks on torch tensors."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from pflow.errors import PflowError
from pflow.flows.affine import AffineFlow
from pflow.flows.base import Flow, by_spatial_dimensions, require_sizes
from pflow.flows.chint import ConditionalHint
from pflow.flows.coupling import ConditionalCouplingFlow
from pflow.flows.image_chint import ImageConditionalHint
from pflow.flows.image_coupling import ImageCouplingFlow
from pflow.flows.latent import LatentGaussian
from pflow.flows.log_data import LogData
from pflow.flows.spline_latent import SplineLatent
from pflow.flows.stationary import StationaryFlow
from pflow.flows.unconditional import Unconditional
from pflow.settings.suggestion import did_you_mean

__all__ = [
    "FLOWS",
    "AffineFlow",
    "ConditionalCouplingFlow",
    "ConditionalHint",
    "Flow",
    "ImageConditionalHint",
    "ImageCouplingFlow",
    "LatentGaussian",
    "LogData",
    "SplineLatent",
    "StationaryFlow",
    "Unconditional",
    "build_flow",
]

# By name, and by the number of spatial dimensions of the model where that matters.
FLOWS: dict[str, type[Flow] | dict[int, type[Flow]]] = {
    "coupling": {0: ConditionalCouplingFlow, 2: ImageCouplingFlow},
    "chint": {0: ConditionalHint, 2: ImageConditionalHint},
    "latent_gaussian": LatentGaussian,
    "unconditional": Unconditional,
    "affine": AffineFlow,
    "log_data": LogData,
    "spline_latent": SplineLatent,
    "stationary": StationaryFlow,
}


def build_flow(
    name: str, model_shape: Sequence[int], data_shape: Sequence[int], **settings: Any
) -> Flow:
    """The flow called `name`, with weights drawn from torch's generator.

    Arguments:
        name: a key of `FLOWS`.
        model_shape: shape of one x.
        data_shape: shape of one y.
        settings: keyword arguments of the flow's class; omitted ones have their defaults.

    Raises:
        PflowError: for an unknown name or setting, with the nearest valid one, and for impossible
            settings.
    """
    if name not in FLOWS:
        raise PflowError(_unknown("flow", name, FLOWS))
    require_sizes(model_shape=model_shape, data_shape=data_shape)
    flow = FLOWS[name]
    if isinstance(flow, dict):
        flow = by_spatial_dimensions(flow, model_shape)
    accepted = list(inspect.signature(flow).parameters)[2:]
    for setting in settings:
        if setting not in accepted:
            raise PflowError(
                _unknown(
                    f"setting of the flow {name} for models of shape {tuple(model_shape)}",
                    setting,
                    accepted,
                )
            )
    return flow(model_shape, data_shape, **settings)


def _unknown(kind: str, given: str, accepted: Sequence[str] | dict[str, Any]) -> str:
    advice = did_you_mean(given, accepted, "choose one of these")
    return f"`{given}` is no {kind}; known are {', '.join(accepted)}: {advice}"
