"""Runs of an experiment, finished or not, and their medians over seeds: from files to rows of
tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from pflow.report.columns import ACCURACY, COST, REACHED, SUMMARY
from pflow.report.numbers import Cell, format_number, over_seeds
from pflow.report.trust import EVIDENCE, verdict_of
from pflow.storage.layout import ExperimentFolder
from pflow.storage.origins import require_unchanged

__all__ = [
    "Reader",
    "Run",
    "closest_to_posterior",
    "counted",
    "finding",
    "method_row",
    "read_run",
]


@dataclass
class Run:
    """One seed of one method at one observation, finished or not."""

    observation: str
    method: str
    seed: int
    metrics: dict[str, Any] | None
    flow: dict[str, Any]


@dataclass
class Reader:
    """Reads files of a results folder; a damaged file is reported on the page and treated as
    missing, and so are those left out. A file that was changed after its job wrote it raises
    PflowError.
    """

    folder: Path
    left_out: frozenset[str] = frozenset()
    complaints: list[str] = field(default_factory=list)

    def json(self, file: Path) -> dict[str, Any] | None:
        if not file.is_file() or str(file) in self.left_out:
            return None
        require_unchanged(file)
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


def read_run(
    reader: Reader, folder: ExperimentFolder, observation: str, method: str, seed: int
) -> Run:
    """One run, without metrics if it has not finished."""
    run = folder.run(observation, method, seed)
    metrics, flow = reader.json(run.metrics), reader.json(run.about)
    return Run(observation, method, seed, metrics, flow or {})


def method_row(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians over the seeds that have finished."""
    finished = [run for run in runs if run.metrics is not None]
    metrics = [run.metrics for run in runs if run.metrics is not None]
    missing = "not applicable" if finished else "not finished yet"
    cells = {
        key: over_seeds([values.get(key) for values in metrics], digits, missing)
        for key, (_, _, digits) in (SUMMARY | ACCURACY | EVIDENCE | COST).items()
    }
    devices = [
        values.get("device") or run.flow.get("device")
        for run, values in zip(finished, metrics, strict=True)
    ]
    return {
        "observation": runs[0].observation if runs else "",
        "method": runs[0].method if runs else "",
        "cells": cells,
        "verdict": verdict_of(metrics),
        "reached": [evaluations_until(metrics, limit) for limit in REACHED],
        "finished": len(finished),
        "seeds": len(runs),
        "devices": sorted({device for device in devices if device}),
        "stop_reasons": sorted(
            {run.flow["stop_reason"] for run in finished if run.flow.get("stop_reason")}
        ),
        "starts": sorted(
            {run.flow["start_note"] for run in finished if run.flow.get("start_note")}
        ),
        "warnings": sorted({run.flow["warning"] for run in finished if run.flow.get("warning")}),
        "skipped": sum(run.flow.get("skipped_steps") or 0 for run in finished),
    }


def counted(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The numbers that are not zero or absent in every row."""
    return {key for row in rows for key, cell in row["cells"].items() if cell.value}


def evaluations_until(metrics: Sequence[Mapping[str, Any]], limit: float) -> Cell:
    """Median over seeds of the evaluations at the first checkpoint whose KL is at most `limit`
    nats.
    """
    measured = [values for values in metrics if "kl_reverse_nats" in values]
    if not measured:
        return Cell(None)
    middle = median(
        values.get(f"evaluations_until_{limit:g}_nats", math.inf) for values in measured
    )
    return (
        Cell(middle, format_number(middle))
        if math.isfinite(middle)
        else Cell(None, text="not reached", why="by half of the seeds or more")
    )


def finding(
    observation: str, rows: Sequence[Mapping[str, Any]], several: bool
) -> dict[str, Any] | None:
    """The method closest to the exact posterior, and those that spend no evaluation; None without a
    reference.
    """
    measured = [
        row
        for row in rows
        if row["observation"] == observation and row["cells"]["kl_reverse_nats"].value is not None
    ]
    if not measured:
        return None
    best = min(measured, key=lambda row: row["cells"]["kl_reverse_nats"].value)
    free = [row for row in measured if row["cells"]["evaluations"].value == 0 and row is not best]
    return {"observation": observation if several else "", "best": best, "free": free}


def closest_to_posterior(runs: Sequence[Run]) -> Run | None:
    """The run with the smallest KL(q || posterior); the first one if no KL is known, None without
    runs.
    """
    return min(
        runs, key=lambda run: (run.metrics or {}).get("kl_reverse_nats", math.inf), default=None
    )
