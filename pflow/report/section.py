"""The section of the page about one experiment: from its folder of results and its settings to
plain values for the template.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pflow.figures.palette import method_colour, method_label
from pflow.report.best import best_posteriors
from pflow.report.overview import finished_metrics, overview, summary_rows
from pflow.report.pictures import figures
from pflow.report.ranking import other_priors, shown_observations
from pflow.report.runs import (
    Reader,
    Run,
    closest_to_posterior,
    finding,
    method_row,
    read_run,
)
from pflow.report.settings_text import named, plain_settings
from pflow.report.trust import calibration_row
from pflow.storage.layout import ExperimentFolder, Layout

__all__ = ["experiment_section"]

ADDED = ("captions", "best", "runs")  # by the stage `report`; no settings


def experiment_section(
    results: Path, settings: Mapping[str, Any], left_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """All values that the template needs for one experiment; metrics that are left out, and figures
    then, are taken as missing.
    """
    name = settings["name"]
    folder = Layout(results).experiment(name)
    reader = Reader(folder.folder, left_out)
    methods = settings.get("methods") or settings.get("finetune") or {}
    observations = named(settings.get("observations") or folders(folder.posteriors))
    names = settings.get("runs") or product(observations, methods, settings.get("seeds") or [0])
    runs = [read_run(reader, folder, *names_of_run) for names_of_run in names]
    metrics = finished_metrics(runs)
    observations = {name: observations[name] for name in observations if name in metrics}
    others = other_priors(methods, settings.get("prior"))
    listed = shown_observations({name: metrics.get(name, {}) for name in observations}, others)
    few = len(listed) == len(observations)
    shown = {name: observations[name] for name in listed}
    shown_runs = runs if few else [run for run in runs if run.observation in shown]
    flows = {
        flow: reader.json(folder.pretrained(flow).about)
        for flow in settings.get("flows") or folders(folder.flows)
    }
    pictures = [] if left_out else figures(folder.figures, settings.get("captions") or {})
    section = (
        described(settings, shown)
        | compared(shown_runs, shown, methods, others)
        | operator_checks(reader, folder, settings)
        | pretrained(reader, folder, flows, shown)
        | {"count": len(observations), "total": len(runs), "overview": None}
    )
    section["summary"] = section["rows"]
    if not few:
        looks = looks_of(methods)
        section["finished"] = sum(run.metrics is not None for run in runs)
        section["summary"] = summary_rows(runs, looks, len(observations))
        section["overview"] = overview(runs, looks, metrics, others)
    posteriors = best_posteriors(settings.get("best") or {}, pictures, section["labels"], others)
    of_best = {shown["name"] for best in posteriors for shown in best["figures"]}
    return section | {
        "posteriors": posteriors if pictures else [],
        "figures": [shown for shown in pictures if shown["name"] not in of_best],
        "provenance": provenance(
            [run.flow for run in runs] + [flow or {} for flow in flows.values()]
        ),
        "store": store_path(results, name, example_run(runs, settings.get("best") or {}, others)),
        "complaints": reader.complaints,
    }


def described(settings: Mapping[str, Any], observations: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the user."""
    return {
        "name": settings["name"],
        "title": settings.get("title") or settings["name"],
        "question": settings.get("question", ""),
        "notes": list(settings.get("notes") or []),
        "problem": plain_settings(settings.get("problem") or {}),
        "observations": {key: plain_settings(entry) for key, entry in observations.items()},
        "rules": (settings.get("evaluate") or {}).get("verdict") or {},
        "configuration": json.dumps(
            {k: v for k, v in settings.items() if k not in ADDED}, indent=2, ensure_ascii=False
        ),
    }


def compared(
    runs: Sequence[Run],
    observations: Iterable[str],
    methods: Mapping[str, Any],
    others: Collection[str] = (),
) -> dict[str, Any]:
    """The methods side by side, at each observation, and every single run. The findings leave out
    the `others`, which are under another prior than the experiment's.
    """
    observations, looks = list(observations), looks_of(methods)
    labels = {method: look["label"] for method, look in looks.items()}
    rows = [
        method_row(of_method) | looks[method]
        for observation in observations
        for method in methods
        if (of_method := [r for r in runs if (r.observation, r.method) == (observation, method)])
    ]
    finished = [run.metrics for run in runs if run.metrics is not None]
    return {
        "rows": rows,
        "findings": [
            finding(
                observation,
                [row for row in rows if row["method"] not in others],
                len(observations) > 1,
            )
            for observation in observations
        ],
        "finished": len(finished),
        "runs": runs,
        "labels": labels,
        "metric_names": [
            key
            for key in dict.fromkeys(key for metrics in finished for key in metrics)
            if key != "verdict_reasons"
        ],
        "referenced": (
            not any(finished) or any("mean_error_posterior_std" in metrics for metrics in finished)
        ),
    }


def looks_of(methods: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Label, colour and settings of each method."""
    return {
        method: {
            "label": method_label(method, {method: (entry or {}).get("label")}),
            "colour": method_colour(method, list(methods)),
            "entry": entry or {},
        }
        for method, entry in methods.items()
    }


def pretrained(
    reader: Reader,
    folder: ExperimentFolder,
    flows: Mapping[str, Any],
    observations: Container[str],
) -> dict[str, Any]:
    """The flows of stage 1 and their calibration; local tests at the observations that are
    shown.
    """
    rows = [
        calibration_row(flow, reader.json(folder.pretrained(flow).calibration)) for flow in flows
    ]
    for row in rows:
        tested = row["observations"]
        row["observations"] = {name: tested[name] for name in tested if name in observations}
    return {"flows": flows, "calibrations": rows}


def operator_checks(
    reader: Reader, folder: ExperimentFolder, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The measurements of check_operator."""
    measured = reader.json(folder.operator) or {}
    return {
        "has_operator": (settings.get("problem") or {}).get("name") != "pairs_only",
        "operator": {
            key: value
            for key, value in measured.items()
            if value is not None and not isinstance(value, (dict, list))
        },
    }


def provenance(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Provenance of all trained flows: each value that occurs."""
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


def example_run(
    runs: Sequence[Run], best: Mapping[str, Mapping[str, Any]], others: Collection[str]
) -> Run | None:
    """The run that the page shows first; without figures, the one with the smallest KL."""
    shown = next(((observation, entry["method"]) for observation, entry in best.items()), None)
    of_own_prior = [run for run in runs if run.method not in others]
    return next(
        (run for run in runs if (run.observation, run.method) == shown),
        closest_to_posterior(of_own_prior or runs),
    )


def store_path(results: Path, name: str, run: Run | None) -> str:
    """The path of the draws of a run, for the example of how to read them."""
    root = results if not results.is_absolute() else Path(results.name)
    names = (run.observation, run.method, run.seed) if run else ("OBSERVATION", "METHOD", 0)
    return Layout(root).experiment(name).run(*names).posterior.as_posix()


def folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; none where it does not exist."""
    return (
        sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if folder.is_dir()
        else []
    )
