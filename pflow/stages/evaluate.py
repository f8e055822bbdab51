"""evaluate: how accurate one posterior is, what it cost, and whether to trust it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch

from pflow.device import select_device
from pflow.diagnostics.summary import against_reference, without_reference
from pflow.diagnostics.verdict import judge
from pflow.stage_settings import EvaluateSettings
from pflow.stages.inputs import problem_from
from pflow.stages.weights import load_flow
from pflow.store import read_csv, read_datatree, read_json, write_json

__all__ = ["evaluate"]

FROM_CALIBRATION = ("sbc_p_value", "tarp_p_value")
REACHED = (1.0, 0.1, 0.01)  # nats of KL(q || posterior) whose first crossing is a cost


@torch.no_grad()
def evaluate(
    settings: EvaluateSettings,
    record: dict[str, Any],
    *,
    posterior: Path,
    flow: Path,
    reference: Path | None,
    calibration: Path | None,
    out: Path,
    threads: int = 1,
) -> None:
    """Write metrics.json; what needs a reference is absent without one, and what is not finite is absent too."""
    select_device("cpu", threads)
    tree, trained = read_datatree(posterior), read_json(flow.with_name("flow.json"))
    metrics: dict[str, Any] = _by_itself(tree, settings)
    if calibration is not None:
        metrics |= _of_the_pretrained_flow(read_json(calibration), settings)
    if reference is not None:
        metrics |= _against(reference, settings, tree, flow)
    unknowns = math.prod(tree["posterior"]["x"].shape[2:])
    rules = dataclasses.asdict(settings.evaluate.verdict)
    judgement = judge(metrics, rules, unknowns=unknowns, fine_tuned=settings.fine_tuned)
    metrics |= {"verdict": judgement.verdict, "verdict_reasons": judgement.reasons}
    metrics |= {name: trained[name] for name in ("evaluations", "wall_seconds", "device", "skipped_steps", "stop_reason")}
    metrics |= {name: int(tree.attrs[name]) for name in ("sampling_evaluations", "sampling_forwards")}
    metrics |= _evaluations_until(flow.with_name("history.csv"))
    write_json(out, dict(sorted(metrics.items())))


def _by_itself(tree: Any, settings: EvaluateSettings) -> dict[str, float]:
    stats = {name: values.values[0] for name, values in tree["sample_stats"].data_vars.items()}
    more = {}
    if "score_stats" in tree:
        more["score_error"] = tree["score_stats"]["score_error"].values[0]
    if "sample_stats_prior" in tree:
        more |= {f"prior_{name}": tree["sample_stats_prior"][name].values[0] for name in ("log_likelihood", "log_q")}
    rules = settings.evaluate.verdict
    return without_reference(
        tree["posterior"]["x"].values[0],
        stats["log_q"],
        stats["log_weight"],
        stats["chi_square"],
        tree["observed_data"]["y"].size,
        largest_k=rules.pareto_k,
        high_ess=rules.ess_high,
        **more,
    )


def _evaluations_until(history: Path) -> dict[str, int]:
    """Evaluations at the first checkpoint whose KL is small enough; absent where it never was."""
    columns = read_csv(history)
    first = {limit: columns["evaluations"][columns["kl_reverse_nats"] <= limit] for limit in REACHED}
    return {f"evaluations_until_{limit:g}_nats": int(found[0]) for limit, found in first.items() if len(found)}


def _of_the_pretrained_flow(calibration: dict[str, Any], settings: EvaluateSettings) -> dict[str, float]:
    """Whether y_obs is like the training data; for the amortised flow itself also its calibration."""
    here = calibration["observations"][settings.observation]
    if settings.fine_tuned:
        return {"ood_p_value": here["ood_p_value"]}
    return here | {name: calibration[name] for name in FROM_CALIBRATION}


def _against(reference: Path, settings: EvaluateSettings, tree: Any, flow: Path) -> dict[str, float]:
    known, problem = read_datatree(reference), problem_from(settings.problem)
    y = torch.from_numpy(tree["observed_data"]["y"].values)[None]
    truth = known["posterior"]["x"].values
    truth = truth.reshape(-1, *truth.shape[2:])
    network, _ = load_flow(flow, torch.device("cpu"))
    more: dict[str, Any] = {}
    if known.attrs["kind"] == "exact":
        exact = problem.exact_posterior(y, fidelity="high")
        evidence = float(known.attrs["log_evidence"])
        more = {
            "mean": exact.mean.numpy(),
            "std": exact.std.numpy(),
            "log_posterior": tree["sample_stats"]["lp"].values[0].astype("f8") - evidence,
            "log_posterior_of_truth": known["sample_stats"]["lp"].values[0],
            "log_evidence_exact": evidence,
        }
    log_q_of_truth = network.log_prob(torch.from_numpy(truth), problem.summary(y)).double().numpy()
    return against_reference(tree["posterior"]["x"].values[0], truth, tree["sample_stats"]["log_q"].values[0], log_q_of_truth, **more)
