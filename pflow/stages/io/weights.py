"""Flows from settings and from weights files, which hold their architecture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pflow.config.flows import FlowSettings
from pflow.errors import PflowError
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.storage.origins import file_hash
from pflow.storage.text_files import read_json
from pflow.storage.weights import read_weights

__all__ = ["architecture_of", "load_flow"]

NO_ARCHITECTURE = ("pretrain", "conditional", "data_transform", "start", "pairs")


def architecture_of(
    flow: FlowSettings, model_shape: Sequence[int], data_shape: Sequence[int]
) -> dict[str, Any]:
    """Arguments of `build_flow`, as plain data; a setting that is None is left to the flow."""
    given = {
        f.name: getattr(flow, f.name)
        for f in dataclasses.fields(flow)
        if f.name not in NO_ARCHITECTURE
    }
    settings = {name: value for name, value in given.items() if value is not None}
    shapes = {"model_shape": list(model_shape), "data_shape": list(data_shape)}
    if not getattr(flow, "conditional", True):
        seen = {"model_shape": list(model_shape), "data_shape": [1, *model_shape[1:]]}
        base = {"name": flow.tag_value, **seen, **settings}
        if len(model_shape) > 1:
            base["conditional"] = False
        return {"name": "unconditional", **shapes, "base": base}
    base = {"name": flow.tag_value, **shapes, **settings}
    if flow.data_transform != "log":
        return base
    if len(model_shape) > 1:
        raise PflowError(
            f"`data_transform: log` is for models that are vectors, and this one has the shape"
            f" {tuple(model_shape)}: leave it out, or let `summary` of the problem take the"
            " logarithm"
        )
    return {"name": "log_data", **shapes, "base": base}


def load_flow(
    path: Path, device: torch.device, expected: dict[str, Any] | None = None
) -> tuple[Flow, dict[str, Any]]:
    """The flow in a weights file, and its architecture.

    Raises:
        PflowError: damaged file, other weights than the JSON file beside it describes, or another
            architecture than `expected`.
    """
    tensors, metadata = read_weights(path)
    _require_unchanged(path)
    if "architecture" not in metadata:
        raise PflowError(
            f"{path} does not say its architecture: it was not written by pflow; delete it and run"
            " snakemake again"
        )
    architecture = json.loads(metadata["architecture"])
    if expected is not None and architecture != expected:
        differing = sorted(
            k for k in {*architecture, *expected} if architecture.get(k) != expected.get(k)
        )
        differences = ", ".join(
            f"{k}={architecture.get(k)} (expected {expected.get(k)})" for k in differing
        )
        raise PflowError(
            f"{path} holds weights of another architecture: {differences}: delete the file and run"
            " snakemake again"
        )
    flow = build_flow(**architecture)
    try:
        flow.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise PflowError(
            f"{path} does not fit its architecture ({reason}): delete the file and run snakemake"
            " again"
        ) from error
    return flow.to(device), architecture


def _require_unchanged(path: Path) -> None:
    """Check weights against the hash in the JSON file beside them; weights from elsewhere may have
    no such file.
    """
    about = path.with_suffix(".json")
    promised = read_json(about).get("weights_hash") if about.is_file() else None
    if promised is not None and promised != (found := file_hash(path)):
        raise PflowError(
            f"{path} (with the hash {found}) must be the weights that {about.name} beside it"
            " describes, and was replaced or changed after it was written: delete both and run"
            " snakemake again"
        )
