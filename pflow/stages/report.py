"""report: one self-contained page over all experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.decoding import encode
from pflow.report import build_report
from pflow.stage_settings import ReportSettings
from pflow.store import read_json, replacing

__all__ = ["report"]


def report(settings: ReportSettings, record: dict[str, Any], *, results: Path, out: Path, threads: int = 1) -> None:
    """Write the HTML page."""
    experiments = [
        {"name": name, **encode(experiment), "captions": read_json(results / name / "figures" / "index.json")["captions"]}
        for name, experiment in settings.experiments.items()
    ]
    page = build_report(results, experiments)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
