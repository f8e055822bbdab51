"""evaluate: accuracy, cost and verdict of one posterior."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch

from pflow.config.jobs import EvaluateJobSettings
from pflow.config.priors import GaussianPriorSettings
from pflow.diagnostics.images import against_truth
from pflow.diagnostics.summary import against_reference, finite, without_reference
from pflow.diagnostics.verdict import judge
from pflow.execution.device import select_device
from pflow.stages.io.inputs import problem_from
from pflow.stages.io.priors import with_prior
from pflow.stages.io.weights import load_flow
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import FlowFolder
from pflow.storage.text_files import read_csv, read_json, write_json

__all__ = ["evaluate"]

ELEMENTS = 2**18  # of x that go through the flow at once
IMAGE_AXES = 5  # of draws of an image: chain, draw, channel, row, column
FROM_CALIBRATION = ("sbc_p_value", "tarp_p_value", "held_out_nats")
COPIED = ("evaluations", "wall_seconds", "device", "skipped_steps", "stop_reason")  # of flow.json
COPIED_WHERE_THERE = (
    "peak_memory_mb",
    "seconds_per_step",
    "checked_evaluations",
    "invalid_evaluations",
)
REACHED = (
    1.0,
    0.1,
    0.01,
)  # KL(q || posterior) in nats; the evaluations until the first crossing are reported


@torch.no_grad()
def evaluate(
    settings: EvaluateJobSettings,
    record: dict[str, Any],
    *,
    posterior: Path,
    flow: Path,
    reference: Path | None,
    calibration: Path | None,
    out: Path,
    prior: Path | None = None,
    method_calibration: Path | None = None,
    threads: int = 1,
) -> None:
    """Write metrics.json; entries that need a reference are absent without one, and so are entries
    that are not finite.
    """
    select_device("cpu", threads)
    tree = read_datatree(posterior)
    trained = read_json(FlowFolder(flow.parent).about, *COPIED)
    metrics: dict[str, Any] = _by_itself(tree, settings)
    if calibration is not None:
        metrics |= _of_the_pretrained_flow(read_json(calibration, "observations"), settings)
    if method_calibration is not None:
        metrics |= {
            f"fine_tuning_{name}": value
            for name, value in read_json(method_calibration, "numbers")["numbers"].items()
        }
    if reference is not None:
        reference_tree = read_datatree(reference)
        if reference_tree.attrs["kind"] != "gaussian" or isinstance(
            settings.prior, GaussianPriorSettings
        ):
            metrics |= _against(reference_tree, settings, tree, flow, prior)
    if tree["posterior"]["x"].ndim == IMAGE_AXES and "constant_data" in tree:
        metrics |= _image(tree, reference_tree if reference is not None else None)
    unknowns = math.prod(tree["posterior"]["x"].shape[2:])
    rules = dataclasses.asdict(settings.evaluate.verdict)
    judgement = judge(
        metrics,
        rules,
        unknowns=unknowns,
        fine_tuned=settings.fine_tuned,
        linear=bool(tree.attrs.get("linear_operator", 0)),
    )
    metrics |= {"verdict": judgement.verdict, "verdict_reasons": judgement.reasons}
    metrics |= {name: trained[name] for name in COPIED}
    metrics |= {
        name: int(tree.attrs[name]) for name in ("sampling_evaluations", "sampling_forwards")
    }
    metrics |= {name: trained[name] for name in COPIED_WHERE_THERE if name in trained}
    metrics |= _evaluations_until(FlowFolder(flow.parent).history)
    write_json(out, dict(sorted(metrics.items())))


def _by_itself(tree: Any, settings: EvaluateJobSettings) -> dict[str, float]:
    stats = {name: values.values[0] for name, values in tree["sample_stats"].data_vars.items()}
    if "log_weight" not in stats:  # pairs alone: there are no importance weights
        return {}
    more = {}
    if "score_stats" in tree:
        more["score_error"] = tree["score_stats"]["score_error"].values[0]
    if "sample_stats_prior" in tree:
        more |= {
            f"prior_{name}": tree["sample_stats_prior"][name].values[0]
            for name in ("log_likelihood", "log_q")
        }
    rules = settings.evaluate.verdict
    return without_reference(
        tree["posterior"]["x"].values[0],
        stats["log_q"],
        stats["log_weight"],
        stats["chi_square"],
        int(tree.attrs["data_size"]),
        largest_k=rules.pareto_k,
        high_ess=rules.ess_high,
        **more,
    )


def _evaluations_until(history: Path) -> dict[str, int]:
    """Evaluations at the first checkpoint whose KL is small enough; absent if it never was."""
    columns = read_csv(history, "evaluations", "kl_reverse_nats")
    first = {
        limit: columns["evaluations"][columns["kl_reverse_nats"] <= limit] for limit in REACHED
    }
    return {
        f"evaluations_until_{limit:g}_nats": int(reached[0])
        for limit, reached in first.items()
        if len(reached)
    }


def _of_the_pretrained_flow(
    calibration: dict[str, Any], settings: EvaluateJobSettings
) -> dict[str, float]:
    """Its calibration: under the names that a verdict uses, whether y_obs resembles the training
    data and, for the amortised flow, the other tests.
    """
    here = calibration["observations"][settings.observation]
    metrics = {
        f"pretrained_{name}": value
        for name, value in (calibration | here).items()
        if isinstance(value, (int, float))
    }
    if settings.fine_tuned:
        return metrics | {"ood_p_value": here["ood_p_value"]}
    return metrics | here | {n: calibration[n] for n in FROM_CALIBRATION if n in calibration}


def _image(tree: Any, reference_tree: Any) -> dict[str, float]:
    """Against the true image, beside other estimates of it. Coverage is over pixels here."""
    truth, observed = tree["constant_data"]["x_true"].values, tree["observed_data"]
    seen = observed["summary" if "summary" in observed else "y"].values
    others = {"data": seen} if seen.shape == truth.shape else {}
    if reference_tree is not None and "estimates" in reference_tree:
        others |= {
            name: reference_tree["estimates"][f"x_{name}"].values
            for name in ("gaussian", "wiener")
            if f"x_{name}" in reference_tree["estimates"]
        }
    return finite(against_truth(tree["posterior"]["x"].values[0], truth, others))


def _against(
    reference_tree: Any, settings: EvaluateJobSettings, tree: Any, flow: Path, prior: Path | None
) -> dict[str, float]:
    y = torch.from_numpy(tree["observed_data"]["y"].values)[None]
    problem = with_prior(problem_from(settings.problem), settings.prior, prior, y)
    x, truth = tree["posterior"]["x"].values[0], reference_tree["posterior"]["x"].values
    truth = truth.reshape(-1, *truth.shape[2:])
    apart = slice(
        None, None, max(1, len(truth) // len(x))
    )  # no more of them than draws: each costs a pass of the flow
    truth = truth[apart]
    network, _ = load_flow(flow, torch.device("cpu"))
    more: dict[str, Any] = {}
    if "log_evidence" in reference_tree.attrs:
        exact = problem.exact_posterior(y, fidelity="high")
        assert exact is not None, "the reference was drawn from it"
        evidence = float(reference_tree.attrs["log_evidence"])
        log_posterior = reference_tree["sample_stats"]["lp"].values
        more = {
            "mean": exact.mean.numpy(),
            "std": exact.std.numpy(),
            "log_posterior": tree["sample_stats"]["lp"].values[0].astype("f8") - evidence,
            "log_posterior_of_truth": log_posterior.reshape(-1)[apart],
            "log_evidence_exact": evidence,
        }
    parts = torch.from_numpy(truth).split(max(1, ELEMENTS // truth[0].size))
    log_q_of_truth = (
        torch.cat([network.log_prob(part, problem.summary(y)) for part in parts]).double().numpy()
    )
    return against_reference(
        x, truth, tree["sample_stats"]["log_q"].values[0], log_q_of_truth, **more
    )
