"""A page about the runs that are complete, where other runs have failed."""

from __future__ import annotations

import json
import subprocess
import sys

from pflow.pipeline.out_of_date import compare
from pflow.pipeline.planned_jobs import Wildcards
from pflow.pipeline.workflow import Pipeline
from pflow.storage.atomic import replacing
from pflow.storage.origins import origin_file

__all__ = ["forget_partial_report", "write_partial_report"]

INTERRUPTED = "interrupted: "


def write_partial_report(pipeline: Pipeline, failures: str) -> str:
    """Write `partial_report.html`, which leaves out what is missing or out of date.

    Arguments:
        pipeline: of the run that failed.
        failures: a line for each failed job, "log: reason".

    Returns:
        one line for the user; empty where there is nothing to show, and then there is no page.
    """
    forget_partial_report(pipeline)
    layout, lines = pipeline.layout, failures.splitlines()
    failed = [line for line in lines if INTERRUPTED not in line]
    metrics = [
        file
        for name in pipeline.configuration.experiments
        for file in pipeline.files(name).runs(lambda run: run.metrics)
    ]
    right = compare(pipeline).right
    missing = [file for file in metrics if file not in right]
    if not failed or len(missing) == len(metrics):
        return ""
    with replacing(layout.failures) as temporary:
        content = {"missing": missing, "failures": failed}
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    command = [sys.executable, "-m", "pflow", "report"]
    command += ["--settings", pipeline.settings("report")(Wildcards())]
    command += ["--results", str(layout.results), "--failures", str(layout.failures)]
    done = subprocess.run(
        [*command, "--out", str(layout.partial_report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"no partial report: {done.stdout.strip().splitlines()[-1]}"
    complete = len(metrics) - len(missing)
    return f"{complete} of {len(metrics)} runs are complete: {layout.partial_report}"


def forget_partial_report(pipeline: Pipeline) -> None:
    """Delete the page of an earlier failure."""
    page = pipeline.layout.partial_report
    for file in (page, origin_file(page), pipeline.layout.failures):
        file.unlink(missing_ok=True)
