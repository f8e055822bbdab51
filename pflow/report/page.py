"""One self-contained HTML page over all experiments: directories in, text out.

The page is rendered from the files of the other stages alone: `metrics.json`, `calibration.json`,
`flow.json`, `operator.json` and the figures. It needs no network and opens from `file://`. Runs
that have not finished are named as such, so that the page can be made at any time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pflow.figures.palette import method_colour, method_label
from pflow.report.numbers import Cell, format_number, is_number, over_seeds
from pflow.report.pictures import figures, picture, shrink
from pflow.report.trust import CALIBRATION, EVIDENCE, calibration_row, verdict_of
from pflow.storage.layout import ExperimentFolder, Layout

__all__ = ["build_report"]

# name in metrics.json: heading, unit, significant digits
SUMMARY = {
    "kl_reverse_nats": ("KL(q‖posterior)", "nats", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "elbo_nats": ("ELBO", "nats", 4),
    "evaluations": ("Evaluations", "", 3),
    "wall_seconds": ("Wall time", "s", 3),
}
ACCURACY = {
    "kl_reverse_nats": ("KL(q‖posterior)", "nats", 2),
    "kl_reverse_nats_se": ("± error", "nats", 2),
    "kl_forward_nats": ("KL(posterior‖q)", "nats", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "log_evidence_error_nats": ("Evidence error", "nats", 2),
    "mean_error_posterior_std": ("Mean error", "posterior std", 2),
    "std_error_posterior_std": ("Std error", "relative", 2),
    "c2st": ("Classifier test", "0.5 is best", 3),
}
COST = {
    "sampling_forwards": ("Sampling forwards", "", 3),
    "sampling_evaluations": ("Sampling evaluations", "", 3),
}
REACHED = (1.0, 0.1, 0.01)  # nats of KL(q || posterior) whose first crossing is listed as a cost
CHECKS = {
    "repetition_error": "same result when repeated (relative error)",
    "batch_error": "a batch gives what its members give one by one (relative error)",
    "linearity_error": "linear, as declared (relative error)",
    "dot_test_error": "adjoint is the transpose: dot test (relative error)",
    "gradient_error": "gradient against finite differences (relative error)",
    "taylor_slope": "order of the Taylor remainder (2 expected)",
    "seconds_per_forward": "seconds per forward",
    "seconds_per_gradient": "seconds per evaluation (forward with gradient)",
    "bytes_saved_for_gradient": "bytes kept for the gradient of a batch",
}
BENCHMARK = (
    "Accuracy against evaluations of F: medians and quartiles over seeds. Above, the divergence"
    " that a density has and chains do not; below, a distance between draws that all methods have."
)


@dataclass
class Run:
    """One seed of one method at one observation, as far as it has come."""

    observation: str
    method: str
    seed: int
    metrics: dict[str, Any] | None
    flow: dict[str, Any]


@dataclass
class Reader:
    """Reads files of a results folder; what is damaged is noted for the page and treated as
    missing.
    """

    folder: Path
    complaints: list[str] = field(default_factory=list)

    def json(self, file: Path) -> dict[str, Any] | None:
        if not file.is_file():
            return None
        path = file.relative_to(self.folder).as_posix()
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            self.complaints.append(f"{path} is not valid JSON ({error})")
            return None
        if not isinstance(content, dict):
            self.complaints.append(f"{path} holds no names and values")
            return None
        return content


def build_report(
    results: Path, experiments: Sequence[Mapping[str, Any]], benchmark: Path | None = None
) -> str:
    """The page as one string.

    Arguments:
        results: folder with one folder an experiment, laid out as in the design, section 2.
        experiments: for each experiment its settings as configured, with its `name`. Used by name:
            `title`, `question`, `problem`, `observations` (names, or names with settings),
            `methods` or `finetune` (name: settings; `label` is what to call it), `flows`, `seeds`,
            `notes` (sentences for the reader) and `captions` (name of a figure: caption).
            Everything but `captions` is also printed as configuration.
        benchmark: figure of pflow's own benchmark of its methods; None to leave it out.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns = {
        "summary": SUMMARY,
        "accuracy": ACCURACY,
        "evidence": EVIDENCE,
        "calibration": CALIBRATION,
        "cost": COST,
    }
    environment.globals.update(
        {f"{name}_columns": entries for name, entries in columns.items()},
        reached=REACHED,
        one=single,
        checks=CHECKS,
    )
    sections = [experiment_section(Path(results), settings) for settings in experiments]
    compared = picture(benchmark, BENCHMARK) if benchmark else None
    shrink(
        [drawn for section in sections for drawn in section["figures"]]
        + ([compared] if compared else [])
    )
    return environment.get_template("template.html").render(
        experiments=sections, benchmark=compared
    )


def experiment_section(results: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template says about one experiment."""
    name = settings["name"]
    folder = Layout(results).experiment(name)
    reader = Reader(folder.folder)
    methods = settings.get("methods") or settings.get("finetune") or {}
    labels = {
        method: method_label(method, {method: (entry or {}).get("label")})
        for method, entry in methods.items()
    }
    observations = named(settings.get("observations") or folders(folder.posteriors))
    runs = [
        read_run(reader, folder, observation, method, seed)
        for observation in observations
        for method in methods
        for seed in settings.get("seeds") or [0]
    ]
    rows = [
        method_row([run for run in runs if (run.observation, run.method) == (observation, method)])
        | {
            "label": labels[method],
            "colour": method_colour(method, list(methods)),
            "entry": methods[method] or {},
        }
        for observation in observations
        for method in methods
    ]
    flows = {
        flow: reader.json(folder.pretrained(flow).about)
        for flow in settings.get("flows") or folders(folder.flows)
    }
    operator = reader.json(folder.operator) or {}
    closest = min(
        runs, key=lambda run: (run.metrics or {}).get("kl_reverse_nats", math.inf), default=None
    )
    return {
        "name": name,
        "title": settings.get("title") or name,
        "question": settings.get("question", ""),
        "notes": list(settings.get("notes") or []),
        "problem": plain_settings(settings.get("problem") or {}),
        "observations": {key: plain_settings(entry) for key, entry in observations.items()},
        "rows": rows,
        "findings": [
            finding(observation, rows, len(observations) > 1) for observation in observations
        ],
        "finished": sum(run.metrics is not None for run in runs),
        "runs": runs,
        "labels": labels,
        "metric_names": [
            key
            for key in dict.fromkeys(key for run in runs for key in run.metrics or {})
            if key != "verdict_reasons"
        ],
        "calibrations": [
            calibration_row(flow, reader.json(folder.pretrained(flow).calibration))
            for flow in flows
        ],
        "referenced": (
            not any(run.metrics for run in runs)
            or any("mean_error_posterior_std" in (run.metrics or {}) for run in runs)
        ),
        "rules": (settings.get("evaluate") or {}).get("verdict") or {},
        "figures": figures(folder.figures, settings.get("captions") or {}),
        "flows": flows,
        "has_operator": (settings.get("problem") or {}).get("name") != "pairs_only",
        "operator": {
            key: value
            for key, value in operator.items()
            if value is not None and not isinstance(value, (dict, list))
        },
        "configuration": json.dumps(
            {k: v for k, v in settings.items() if k != "captions"}, indent=2, ensure_ascii=False
        ),
        "provenance": provenance(
            [run.flow for run in runs] + [flow or {} for flow in flows.values()]
        ),
        "store": store_path(results, name, closest),
        "complaints": reader.complaints,
    }


def read_run(
    reader: Reader, folder: ExperimentFolder, observation: str, method: str, seed: int
) -> Run:
    run = folder.run(observation, method, seed)
    metrics, flow = reader.json(run.metrics), reader.json(run.about)
    return Run(observation, method, seed, metrics, flow or {})


def method_row(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians over the seeds that have finished."""
    finished = [run for run in runs if run.metrics is not None]
    missing = "not applicable" if finished else "not finished yet"
    cells = {
        key: over_seeds([run.metrics.get(key) for run in finished], digits, missing)
        for key, (_, _, digits) in (SUMMARY | ACCURACY | EVIDENCE | COST).items()
    }
    devices = [run.metrics.get("device") or run.flow.get("device") for run in finished]
    return {
        "observation": runs[0].observation if runs else "",
        "method": runs[0].method if runs else "",
        "cells": cells,
        "verdict": verdict_of([run.metrics for run in finished]),
        "reached": [evaluations_until(finished, limit) for limit in REACHED],
        "finished": len(finished),
        "seeds": len(runs),
        "devices": sorted({device for device in devices if device}),
        "stop_reasons": sorted(
            {run.flow["stop_reason"] for run in finished if run.flow.get("stop_reason")}
        ),
        "skipped": sum(run.flow.get("skipped_steps") or 0 for run in finished),
    }


def evaluations_until(runs: Sequence[Run], limit: float) -> Cell:
    """Median over seeds of the evaluations at the first checkpoint whose KL is at most `limit`
    nats.
    """
    known = [run.metrics for run in runs if "kl_reverse_nats" in run.metrics]
    if not known:
        return Cell(None)
    middle = median(metrics.get(f"evaluations_until_{limit:g}_nats", math.inf) for metrics in known)
    return (
        Cell(middle, format_number(middle))
        if math.isfinite(middle)
        else Cell(None, text="not reached", why="by half of the seeds or more")
    )


def finding(
    observation: str, rows: Sequence[Mapping[str, Any]], several: bool
) -> dict[str, Any] | None:
    """Who came closest to the exact posterior, and where one stands without fine-tuning; None
    without a reference.
    """
    known = [
        row
        for row in rows
        if row["observation"] == observation and row["cells"]["kl_reverse_nats"].value is not None
    ]
    if not known:
        return None
    best = min(known, key=lambda row: row["cells"]["kl_reverse_nats"].value)
    free = [row for row in known if row["cells"]["evaluations"].value == 0 and row is not best]
    return {"observation": observation if several else "", "best": best, "free": free}


def provenance(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all trained flows have in common, and what they do not: each value that occurs."""
    software: dict[str, set[str]] = {}
    for record in records:
        for package, version in (record.get("software") or {}).items():
            software.setdefault(package, set()).add(str(version))
    return {
        "code_versions": sorted(
            {str(record["code_version"]) for record in records if record.get("code_version")}
        ),
        "devices": sorted({str(record["device"]) for record in records if record.get("device")}),
        "software": {
            package: ", ".join(sorted(versions)) for package, versions in software.items()
        },
    }


def store_path(results: Path, name: str, run: Run | None) -> str:
    root = results if not results.is_absolute() else Path(results.name)
    names = (run.observation, run.method, run.seed) if run else ("OBSERVATION", "METHOD", 0)
    return Layout(root).experiment(name).run(*names).posterior.as_posix()


def named(entries: Any) -> dict[str, Any]:
    """Names with settings, from a mapping, a list of names, or a list of settings that hold their
    name.
    """
    if isinstance(entries, Mapping):
        return {str(name): entry or {} for name, entry in entries.items()}
    return {
        str(entry["name"]) if isinstance(entry, Mapping) else str(entry): (
            entry if isinstance(entry, Mapping) else {}
        )
        for entry in entries
    }


def plain_settings(entry: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text; what is not set is left out."""
    shown = {key: value for key, value in entry.items() if value is not None and value != ""}
    return {
        key.replace("_", " "): (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
        for key, value in shown.items()
    }


def single(value: Any) -> Cell:
    """One value of a JSON file: a number to three digits, anything else as it is, and a dash for
    nothing.
    """
    if is_number(value):
        return over_seeds([value])
    if value is None:
        return Cell(None)
    return Cell(None, text=value if isinstance(value, str) else json.dumps(value), why="")


def folders(folder: Path) -> list[str]:
    return (
        sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if folder.is_dir()
        else []
    )
