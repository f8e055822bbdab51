"""What 100 and 1000 observations of one pretraining take, from its weights to the report.

    python benchmarks/many.py                       # 100 and 1000 observations
    python benchmarks/many.py --observations 100    # some 3 minutes on two cores
    python benchmarks/many.py --reference none      # posteriors that nothing is compared with

The experiment `rosenbrock` of config.yaml with its amortised method and one seed. Its flow is
pretrained first, and that is not counted. Before: each stage of each observation is a job of its
own (`observations_per_job: 1`), for 10 observations, because the time of one does not depend on how
many there are. After: several observations share a job, by default. Both run here, one after the
other. Written to benchmarks/results/many.csv: wall seconds of `snakemake`, of them those of figures
and page, which show the 20 worst observations, and for each observation the others; wall seconds of
a plan that finds nothing to do; processor seconds of each stage, of all observations together.
`start` is what the jobs of several observations take beside these, to import and load.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from pflow.storage.layout import Layout

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "many.csv"
NAME = "rosenbrock"
IN_BATCHES = ("observe", "reference", "finetune", "sample", "evaluate")
STAGES = (*IN_BATCHES, "calibrate", "figures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--observations", type=int, nargs="+", default=[100, 1000], metavar="N")
    parser.add_argument("--before", type=int, default=10, metavar="N", help="of single jobs")
    parser.add_argument("--cores", type=int, default=2, metavar="N")
    parser.add_argument("--reference", choices=("exact", "none"), default="exact")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        start = _pretrained(Path(temporary) / "start", options.cores, options.reference)
        cases = [(options.before, 1), *((count, None) for count in options.observations)]
        rows = [_measured(start, count, size, options) for count, size in cases]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(_table(rows))


def _pretrained(folder: Path, cores: int, reference: str) -> Path:
    """A project whose flow is trained."""
    folder.mkdir()
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles", "envs", "pflow"):
        unread = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=unread)
    _configure(folder, 1, 1, reference)
    _snakemake(folder, cores, "pretrain")
    return folder


def _configure(folder: Path, count: int, size: int | None, reference: str) -> None:
    """The experiment with so many observations."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    experiment = settings["experiments"][NAME]
    experiment["observations"] = {f"y{k:04d}": {"seed": k} for k in range(count)}
    experiment["flows"] = {"coupling": experiment["flows"]["coupling"]}
    experiment["finetune"] = {"amortized": experiment["finetune"]["amortized"]}
    experiment["seeds"], experiment["reference"] = [0], {"kind": reference}
    if size is not None:
        experiment["resources"] = {"observations_per_job": size}
    content = yaml.safe_dump({"experiments": {NAME: experiment}})
    (folder / "config.yaml").write_text(content, encoding="utf-8")


def _snakemake(folder: Path, cores: int, *arguments: str) -> float:
    """Run the workflow; wall seconds."""
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", str(cores)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    began = time.monotonic()
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - began


def _measured(
    start: Path, count: int, size: int | None, options: argparse.Namespace
) -> dict[str, Any]:
    """One case, in a copy of the project."""
    cores = options.cores
    folder = start.with_name(f"{count}-{size or 'many'}")
    shutil.copytree(start, folder)
    _configure(folder, count, size, options.reference)
    metrics_seconds = _snakemake(folder, cores, "evaluate")
    page_seconds = _snakemake(folder, cores)
    results = Layout(folder / "results")
    costs = results.experiment(NAME).benchmark("evaluate").parent
    parts = {stage: _cpu_seconds(costs, stage) for stage in STAGES}
    sizes = [len(json.loads(file.read_text())["observations"]) for file in _batches(results)]
    in_batches = sum(parts[stage] for stage in IN_BATCHES)
    row = {
        "observations": count,
        "observations_per_job": max(sizes, default=1),
        "seconds": metrics_seconds + page_seconds,
        "metrics_seconds": metrics_seconds,
        "page_seconds": page_seconds,
        "seconds_per_observation": metrics_seconds / count,
        "plan_seconds": _snakemake(folder, cores, "-n"),
        **{f"{stage}_cpu_seconds": spent for stage, spent in parts.items()},
        "start_cpu_seconds": _cpu_seconds(costs, "batches") - in_batches if sizes else 0.0,
        "report_cpu_seconds": _cpu_seconds(results.benchmark("report").parent, "report"),
        "report_megabytes": results.report.stat().st_size / 1e6,
    }
    shutil.rmtree(folder)
    return {name: round(value, 3) for name, value in row.items()}


def _batches(results: Layout) -> list[Path]:
    """What the batches of runs have made; none where each observation has jobs of its own."""
    return list(results.experiment(NAME).run_batch("amortized", 0, 0).parent.glob("*.json"))


def _cpu_seconds(costs: Path, stage: str) -> float:
    """Processor seconds of all jobs of a stage."""
    seconds = 0.0
    for file in (*costs.glob(f"{stage}.tsv"), *(costs / stage).rglob("*.tsv")):
        names, values = (line.split("\t") for line in file.read_text().splitlines())
        seconds += float(values[names.index("cpu_time")])
    return seconds


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, with the factor that sharing jobs saves."""
    parts = [name for name in rows[0] if name.endswith("_cpu_seconds")]
    head = ("observations", "per job", "wall s", "of the page", "s each", "factor", "plan s")
    names = [name.removesuffix("_cpu_seconds") for name in parts]
    lines = ["| " + " | ".join((*head, *names, "page MB")) + " |"]
    lines.append("|" + "---|" * (len(head) + len(names) + 1))
    for row in rows:
        factor = rows[0]["seconds_per_observation"] / row["seconds_per_observation"]
        cells = [row["observations"], row["observations_per_job"], f"{row['seconds']:.0f}"]
        cells += [f"{row['page_seconds']:.0f}"]
        cells += [f"{row['seconds_per_observation']:.2f}", f"{factor:.1f}"]
        cells += [f"{row['plan_seconds']:.1f}", *(f"{row[name]:.0f}" for name in parts)]
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['report_megabytes']:.1f}"])) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
