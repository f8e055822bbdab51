"""evaluate: how accurate one posterior is, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.device import select_device
from pflow.diagnostics.accuracy import accuracy_against_exact
from pflow.diagnostics.importance import effective_sample_size_fraction, elbo, log_evidence
from pflow.diagnostics.moments import mean_error, std_error
from pflow.stage_settings import EvaluateSettings
from pflow.stages.inputs import problem_from
from pflow.stages.weights import load_flow
from pflow.store import read_datatree, read_json, write_json

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    settings: EvaluateSettings, record: dict[str, Any], *, posterior: Path, flow: Path, reference: Path | None, out: Path, threads: int = 1
) -> None:
    """Write metrics.json; what needs a reference is absent without one."""
    select_device("cpu", threads)
    tree, trained = read_datatree(posterior), read_json(flow.with_name("flow.json"))
    stats = {name: tree["sample_stats"][name].values[0].astype(np.float64) for name in ("lp", "log_q", "log_weight")}
    mean, se = elbo(stats["log_weight"])
    evidence, evidence_se = log_evidence(stats["log_weight"])
    metrics: dict[str, Any] = {
        "elbo_nats": mean,
        "elbo_nats_se": se,
        "log_evidence_nats": evidence,
        "log_evidence_nats_se": evidence_se,
        "ess_fraction": effective_sample_size_fraction(stats["log_weight"]),
        "evaluations": trained["evaluations"],
        "wall_seconds": trained["wall_seconds"],
        "device": trained["device"],
        "skipped_steps": trained["skipped_steps"],
        "stop_reason": trained["stop_reason"],
    }
    if reference is not None:
        metrics |= _against(reference, settings, tree, stats, flow)
    write_json(out, {name: value for name, value in sorted(metrics.items())})


def _against(reference: Path, settings: EvaluateSettings, tree: Any, stats: dict[str, np.ndarray], flow: Path) -> dict[str, float]:
    exact = read_datatree(reference)
    problem = problem_from(settings.problem)
    y = torch.from_numpy(tree["observed_data"]["y"].values)[None]
    truth = torch.from_numpy(exact["posterior"]["x"].values[0])
    network, _ = load_flow(flow, torch.device("cpu"))
    log_q_of_truth = network.log_prob(truth, y).double().numpy()
    log_evidence_exact = float(exact.attrs["log_evidence"])
    accuracy = accuracy_against_exact(
        stats["log_q"],
        stats["lp"] - log_evidence_exact,
        exact["sample_stats"]["lp"].values[0],
        log_q_of_truth,
        log_evidence_exact=log_evidence_exact,
    )
    posterior = problem.exact_posterior(y, fidelity="high")
    x = tree["posterior"]["x"].values[0]
    centre, spread = posterior.mean.numpy(), posterior.std.numpy()
    accuracy["mean_error_posterior_std"] = mean_error(x.mean(0), centre, spread)
    accuracy["std_error_posterior_std"] = std_error(x.std(0, ddof=1), spread)
    return accuracy
