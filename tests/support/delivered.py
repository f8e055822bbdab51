"""Folders of runs that hold the draws of a flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pflow.config.data import ObservationSettings
from pflow.config.decoding import encode
from pflow.config.experiment import SampleSettings
from pflow.config.jobs import ObserveJobSettings, SampleJobSettings
from pflow.config.problems import problem_settings
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.stages import observe, sample
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree
from pflow.storage.layout import RunFolder
from pflow.storage.origins import Origin, write_origin
from pflow.storage.text_files import write_json
from pflow.storage.weights import write_weights
from tests.support.record import RECORD


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


def sampled_run(folder: Path, draws: int, of_prior: int) -> RunFolder:
    """A run of a small Gaussian problem, sampled by its stage, with what made it beside the store.

    Arguments:
        folder: of the run.
        draws: of the flow, which was never trained.
        of_prior: draws of the prior that are evaluated.
    """
    run, problem = RunFolder(folder), problem_settings("gaussian", side=2)
    architecture = {"name": "coupling", "model_shape": [4], "data_shape": [4]}
    architecture |= {"depth": 2, "hidden": 8}
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_flow(architecture).state_dict()
    write_weights(run.weights, weights, {"architecture": json.dumps(architecture)})
    write_json(run.about, {"evaluations": 0})
    y = folder / "y.zarr"
    observe.observe(ObserveJobSettings(problem, ObservationSettings(seed=3)), RECORD, out=y)
    counts = SampleSettings(draws=draws, score_draws=8, prior_draws=of_prior)
    wanted = SampleJobSettings(problem, counts, 0, "cpu", "experiment", "y", "none")
    sample.sample(wanted, RECORD, flow=run.weights, observation=y, out=run.posterior)
    write_origin(run.posterior, Origin("sample", json.dumps(encode(wanted)), "", {}, {}))
    return run
