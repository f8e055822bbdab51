"""What the stage `evaluate` takes: 20 000 draws in two dimensions, and 1 000 draws of 64 x 64
images, each against a reference.

    python benchmarks/evaluating.py [--experiments plane images]

A flow is trained for a moment, its draws are stored as the pipeline stores them, and the stage is
run on them, by the command line's own function. Time is process time of that stage on one thread,
reading and writing included. The operator is not evaluated in it: its predictions lie in the store.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from pflow.cli import main as pflow
from pflow.config.loading import load_configuration
from pflow.pipeline.stages import settings_for

TRAINING = {"epochs": 1, "batch": 16}
LIMITS = {"plane": 10, "images": 60}  # seconds
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "plane": {
        "problem": {"name": "rosenbrock", "noise_std": 0.4},
        "simulate": {"train": 2000, "validation": 100, "test": 100},
        "observations": {"y1": {"x_true": [2, 4]}},
        "reference": {"draws": 10000},
        "flows": {"flow": {"name": "coupling", "depth": 8, "hidden": 64, "pretrain": TRAINING}},
        "finetune": {"method": {"flow": "flow", "objective": "none"}},
        "sample": {"draws": 20000},
    },
    "images": {
        "problem": {"name": "seismic", "height": 64, "width": 64},
        "simulate": {"train": 64, "validation": 16, "test": 50},
        "observations": {"y1": {"seed": 1}},
        "reference": {"kind": "gaussian", "draws": 1000},
        "flows": {"flow": {"name": "coupling", "depth": 4, "hidden": 32, "pretrain": TRAINING}},
        "finetune": {
            "method": {"flow": "flow", "objective": "none", "prior": {"name": "gaussian"}}
        },
        "sample": {"draws": 1000, "score_draws": 8, "prior_draws": 50},
    },
}


@dataclass(frozen=True)
class Pipeline:
    """The stages of one experiment, run in this process and the present folder."""

    configuration: Any
    experiment: str

    def run(self, stage: str, wildcards: dict[str, Any], **paths: str | list[str]) -> float:
        """Process seconds of a stage; `paths` are options of its command."""
        options: list[str] = []
        for option, value in paths.items():
            values = [value] if isinstance(value, str) else value
            options += [f"--{option.replace('_', '-')}", *values]
        settings = settings_for(self.configuration, stage, self.experiment, **wildcards)
        began = time.process_time()
        if pflow([stage, "--settings", settings, *options]) != 0:
            raise SystemExit(f"{stage} failed")
        return time.process_time() - began


def seconds_of_evaluation(name: str) -> float:
    """Run the stages before `evaluate` in the present folder, and time it."""
    configuration = load_configuration({"experiments": {name: EXPERIMENTS[name] | {"seeds": [0]}}})
    stage = Pipeline(configuration, name).run
    run = {"observation": "y1", "method": "method", "seed": "0"}
    e, here = f"results/{name}", f"results/{name}/posteriors/y1/method/seed-0"
    shards = {
        split: f"{e}/pairs/{split}/shard-0.zarr/zarr.json" for split in ("train", "validation")
    }
    for split, path in shards.items():
        stage("simulate", {"split": split, "shard": 0}, out=path)
    observation, weights, reference = (
        f"{e}/observations/y1.zarr/zarr.json",
        f"{e}/pretrained/flow/flow.safetensors",
        f"{e}/posteriors/y1/reference.zarr/zarr.json",
    )
    prior: dict[str, str] = {}
    if name == "images":
        prior = {"prior": f"{e}/prior/spectrum.zarr/zarr.json"}
        stage("spectrum", {}, train_shards=[shards["train"]], out=prior["prior"])
    stage("observe", {"observation": "y1"}, out=observation)
    stage(
        "pretrain",
        {"flow": "flow"},
        train_shards=[shards["train"]],
        validation_shards=[shards["validation"]],
        out=f"{e}/pretrained/flow",
        checkpoint=f"{e}/state",
    )
    stage("reference", {"observation": "y1"}, observation=observation, out=reference, **prior)
    stage(
        "finetune",
        run,
        observation=observation,
        pretrained=weights,
        out=here,
        checkpoint=f"{e}/other",
        **prior,
    )
    stage(
        "sample",
        run,
        flow=f"{here}/flow.safetensors",
        observation=observation,
        out=f"{here}/posterior.zarr/zarr.json",
        **prior,
    )
    return stage(
        "evaluate",
        run,
        posterior=f"{here}/posterior.zarr/zarr.json",
        flow=f"{here}/flow.safetensors",
        reference=reference,
        out=f"{here}/metrics.json",
        **prior,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS)
    )
    names = parser.parse_args().experiments
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in names:
            rows.append(
                (
                    name,
                    EXPERIMENTS[name]["sample"]["draws"],
                    seconds_of_evaluation(name),
                    LIMITS[name],
                )
            )
        os.chdir("/")
    print(
        "| experiment | draws | process seconds of `evaluate` | to stay under |\n|---|---|---|---|"
    )
    for name, draws, seconds, limit in rows:
        print(f"| {name} | {draws} | {seconds:.1f} | {limit} |")


if __name__ == "__main__":
    main()
