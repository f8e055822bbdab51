"""A folder of a run that holds the draws of a flow, as the stage `sample` leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.layout import RunFolder
from pflow.storage.store import write_datatree
from pflow.storage.weights import write_weights


def random_flow(architecture: dict[str, Any], seed: int = 0) -> Flow:
    """A flow far from the identity: every weight is drawn anew."""
    torch.manual_seed(seed)
    flow = build_flow(**architecture)
    for weight in flow.parameters():
        weight.data.add_(0.2 * torch.randn(weight.shape))
    flow.initialised.fill_(True)
    return flow


def deliver(folder: Path, flow: Flow, architecture: dict[str, Any], n: int = 200) -> RunFolder:
    """Weights, and a store with n draws at y = 0.3, with or without a summary of another shape."""
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(run.weights, flow.state_dict(), {"architecture": json.dumps(architecture)})
    summary = torch.full((1, *flow.data_shape), 0.3)
    with torch.no_grad():
        x, log_q = flow.sample_with_log_prob(summary, n, torch.Generator().manual_seed(1))
    observed = point_dataset({"y": summary[0].numpy()})
    if len(flow.data_shape) > 1:  # as of an image
        observed = point_dataset({"y": torch.zeros(5).numpy(), "summary": summary[0].numpy()})
    groups = {
        "posterior": draws_dataset({"x": x.numpy()}),
        "sample_stats": draws_dataset({"log_q": log_q.numpy()}),
        "observed_data": observed,
    }
    write_datatree(run.posterior, groups, {"experiment": "small"})
    return run
