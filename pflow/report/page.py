"""One self-contained HTML page over all experiments: from folders of results to text.

The page is rendered from the files of the other stages alone: `metrics.json`, `calibration.json`,
`flow.json`, `operator.json` and the figures. It needs no network and opens from `file://`. Runs
that have not finished are named as such, so that the page can be made at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pflow.report.columns import ACCURACY, CHECKS, COST, OVERVIEW, REACHED, SUMMARY
from pflow.report.pictures import picture, shrink
from pflow.report.runs import counted
from pflow.report.section import experiment_section
from pflow.report.settings_text import single
from pflow.report.trust import CALIBRATION, EVIDENCE

__all__ = ["build_report"]

BENCHMARK = (
    "Accuracy against evaluations of F: medians and quartiles over seeds. Above, the divergence"
    " that a density has and chains do not; below, a distance between draws that all methods have."
)


def build_report(
    results: Path,
    experiments: Sequence[Mapping[str, Any]],
    benchmark: Path | None = None,
    partial: Mapping[str, list[str]] | None = None,
) -> str:
    """The page as one string.

    Arguments:
        results: folder with one folder an experiment, as the pipeline writes it.
        experiments: for each experiment its settings as configured, with its `name`. Used by name:
            `title`, `question`, `problem`, `observations` (names, or names with settings),
            `methods` or `finetune` (name: settings; `label` is what to call it), `flows`, `seeds`,
            `notes` (sentences for the reader), `captions` (name of a figure: caption), `best`
            (observation: what the stage `figures` says of its best posterior) and `runs`
            (observation, method, seed; absent: all combinations). Everything but the last three
            is also printed as configuration.
        benchmark: figure of pflow's own benchmark of its methods; None to leave it out.
        partial: after a failure: `missing`, the metrics to leave out, and `failures`, a line for
            each failed job.
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
        "overview": OVERVIEW,
    }
    environment.globals.update(
        {f"{name}_columns": entries for name, entries in columns.items()},
        reached=REACHED,
        one=single,
        counted=counted,
        checks=CHECKS,
    )
    left_out = frozenset((partial or {}).get("missing", ()))
    sections = [experiment_section(Path(results), settings, left_out) for settings in experiments]
    compared = picture(benchmark, BENCHMARK) if benchmark else None
    of_best = [best for section in sections for best in section["posteriors"]]
    shrink(
        [drawn for part in of_best for drawn in part["figures"]]
        + [drawn for section in sections for drawn in section["figures"]]
        + ([compared] if compared else [])
    )
    return environment.get_template("template.html").render(
        experiments=sections, benchmark=compared, partial=partial
    )
