"""What pflow adds to Snakemake's start, and how long it takes to see that nothing is to be done in
an experiment of 200 jobs.

    python benchmarks/planning.py [--seeds 22]

Start-up: process time of importing pflow's part of the Snakefile, reading config.yaml and the
fingerprints of the code of all stages, with Snakemake imported already. Plan: process time of
`snakemake -n` (all of Snakemake, its start included) in a folder whose results are stand-ins that
say what made them, and are recorded as finished by `snakemake --touch`. All on one thread; nothing
is computed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
START = """
import time, yaml, snakemake.cli, snakemake.workflow
from pathlib import Path
began = time.process_time()
from pflow.pipeline.failures import summary_of_failures
from pflow.execution.finished import forget_finished
from pflow.pipeline.checks import check_yaml
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline
from pflow.provenance.code import code_fingerprint
check_yaml("config.yaml")
pipeline = Pipeline(yaml.safe_load(open("config.yaml")), Path("."))
for stage in STAGES:
    code_fingerprint(stage)
print(time.process_time() - began)
"""
FILES = """
import yaml
from pathlib import Path
from pflow.pipeline.workflow import Pipeline
from tests.support.stand_ins import make_stand_ins
make_stand_ins(Pipeline(yaml.safe_load(open("config.yaml")), Path(".")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=22, help="of three methods of three stages each"
    )
    seeds = parser.parse_args().seeds
    method = {"flow": "coupling", "objective": "reverse_kl", "evaluations": 640}
    experiment = {
        "problem": {"name": "rosenbrock", "noise_std": 0.4},
        "observations": {"y1": {"x_true": [2, 4]}},
        "flows": {"coupling": {"name": "coupling"}},
        "finetune": {
            "amortized": {"flow": "coupling", "objective": "none"},
            "preconditioned": {**method, "start": "pretrained"},
            "scratch": {**method, "start": "random"},
        },
        "seeds": list(range(seeds)),
    }
    start = float(
        subprocess.run(
            [sys.executable, "-c", START], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(ROOT / "Snakefile", folder)
        for name in ("workflow", "profiles", "envs", "pflow"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        (folder / "config.yaml").write_text(yaml.safe_dump({"experiments": {"many": experiment}}))
        stand_ins = [sys.executable, "-c", FILES]
        subprocess.run(
            stand_ins, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        snakemake = [sys.executable, "-m", "snakemake", "--cores", "1"]
        touched = subprocess.run(
            [*snakemake, "--touch", "--forceall"], cwd=folder, capture_output=True, text=True
        )
        jobs = touched.stderr.count("\nJob ")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        plan = subprocess.run([*snakemake, "-n"], cwd=folder, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        recorded = sum(
            file.is_file() for file in (folder / ".snakemake/metadata").rglob("*")
        )  # params and code of each output, which a plan compares
        if (
            touched.returncode
            or plan.returncode
            or recorded < jobs
            or "Nothing to be done" not in plan.stdout + plan.stderr
        ):
            raise SystemExit(f"{touched.stderr}\n{plan.stdout}\n{plan.stderr}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print("| what | process seconds | to stay under |\n|---|---|---|")
    print(f"| pflow's additions to Snakemake's start | {start:.2f} | 0.3 |")
    print(f"| `snakemake -n` of {jobs} finished jobs | {seconds:.2f} | 6 |")


if __name__ == "__main__":
    main()
