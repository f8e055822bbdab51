"""report: one self-contained page over all experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.config.decoding import encode
from pflow.config.experiment import ExperimentSettings
from pflow.config.jobs import ReportJobSettings
from pflow.config.runs import run_names
from pflow.report.page import build_report
from pflow.storage.layout import ExperimentFolder, Layout
from pflow.storage.store import replacing
from pflow.storage.text_files import read_json

__all__ = ["report"]

BENCHMARK = (
    Path(__file__).parents[2] / "benchmarks" / "results" / "evaluations.png"
)  # in a clone; an installed wheel has none


def report(
    settings: ReportJobSettings,
    record: dict[str, Any],
    *,
    results: Path,
    out: Path,
    failures: Path | None = None,
    threads: int = 1,
) -> None:
    """Write the HTML page; with `failures` (`missing`: metrics to leave out, `failures`: a line for
    each failed job), one about what is complete.
    """
    layout, partial = (
        Layout(results),
        read_json(failures, "missing", "failures") if failures else None,
    )
    experiments = [
        {
            "name": name,
            **encode(experiment),
            "runs": [*run_names(experiment)],
            "notes": experiment.notes + _untracked(layout.experiment(name), experiment),
            **_drawn(layout.experiment(name).figure_index, partial is not None),
        }
        for name, experiment in settings.experiments.items()
    ]
    benchmark = BENCHMARK if BENCHMARK.is_file() else None
    page = build_report(results, experiments, benchmark, partial)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _drawn(index: Path, partial: bool) -> dict[str, Any]:
    """`captions` of the figures, and the `best` posterior of each observation; nothing where a
    partial page has none.
    """
    return {} if partial and not index.is_file() else read_json(index, "captions")


def _untracked(folder: ExperimentFolder, experiment: ExperimentSettings) -> list[str]:
    """A sentence for each pretraining that the user took out of the tracking of code."""
    return [
        f"The pretraining of the flow `{name}` was made by pflow"
        f" {read_json(folder.pretrained(name).about, 'code_version')['code_version']}, and is kept"
        " when pflow's code changes (`track_code: false`)."
        for name, flow in experiment.flows.items()
        if not flow.pretrain.track_code
    ]
