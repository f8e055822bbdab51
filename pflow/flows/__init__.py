"""Conditional invertible networks. Knows tensors only: torch in, torch out."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from pflow.errors import PflowError
from pflow.flows.base import Flow
from pflow.flows.chint import ConditionalHint
from pflow.flows.coupling import ConditionalCouplingFlow
from pflow.flows.latent import LatentGaussian

__all__ = ["FLOWS", "ConditionalCouplingFlow", "ConditionalHint", "Flow", "LatentGaussian", "build_flow"]

FLOWS: dict[str, type[Flow]] = {"coupling": ConditionalCouplingFlow, "chint": ConditionalHint, "latent_gaussian": LatentGaussian}


def build_flow(name: str, model_shape: Sequence[int], data_shape: Sequence[int], **settings: Any) -> Flow:
    """The flow called `name`, with weights drawn from torch's generator.

    Arguments:
        name: a key of `FLOWS`.
        model_shape: shape of one x.
        data_shape: shape of one y.
        settings: keyword arguments of the flow's class; what is missing keeps its default.

    Raises:
        PflowError: for an unknown name or setting, with the nearest right one, and for impossible settings.
    """
    if name not in FLOWS:
        raise PflowError(_unknown("flow", name, FLOWS))
    known = list(inspect.signature(FLOWS[name]).parameters)[2:]
    for setting in settings:
        if setting not in known:
            raise PflowError(_unknown(f"setting of the flow {name}", setting, known))
    return FLOWS[name](model_shape, data_shape, **settings)


def _unknown(kind: str, given: str, known: Sequence[str] | dict[str, Any]) -> str:
    nearest = difflib.get_close_matches(given, known, n=1)
    advice = f"did you mean `{nearest[0]}`?" if nearest else "choose one of these"
    return f"`{given}` is no {kind}; known are {', '.join(known)}: {advice}"
