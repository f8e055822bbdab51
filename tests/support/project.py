"""A project folder with a tiny experiment, and a way to run snakemake in it as a user would."""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

from tests.support.warm_snakemake import TIMEOUT_SECONDS, WarmSnakemake

ROOT = Path(__file__).parents[2]

TINY = {
    "experiments": {
        "tiny": {
            "title": "A tiny experiment",
            "question": "Does everything run?",
            "problem": {"name": "rosenbrock", "noise_std": 0.4},
            "simulate": {
                "train": 300,
                "validation": 100,
                "test": 100,
                "high_fidelity": 100,
                "shard_size": 200,
            },
            "observations": {"y1": {"x_true": [2, 4]}},
            "reference": {"draws": 500},
            "flows": {
                "coupling": {
                    "name": "coupling",
                    "depth": 2,
                    "hidden": 8,
                    "pretrain": {"epochs": 2, "batch": 32},
                },
                "chint": {
                    "name": "chint",
                    "depth": 1,
                    "hidden": 8,
                    "pretrain": {"epochs": 1, "batch": 64},
                },
            },
            "finetune": {
                "amortized": {"flow": "coupling", "objective": "none"},
                "preconditioned": {
                    "flow": "coupling",
                    "start": "pretrained",
                    "objective": "reverse_kl",
                    "evaluations": 96,
                    "batch": 32,
                },
                "seed_paper_scratch": {
                    "flow": "chint",
                    "start": "random",
                    "objective": "reverse_kl",
                    "gradient": "total",
                    "evaluations": 64,
                    "batch": 32,
                    "warmup": 0,
                },
            },
            "seeds": [0],
            "sample": {"draws": 200},
        }
    }
}


class Project:
    """A folder with Snakefile, rules, profiles and a configuration of its own."""

    def __init__(self, folder: Path, configuration: dict | str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "Snakefile", folder)
        for name in ("workflow", "profiles", "envs"):
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
        self.write(configuration)

    @classmethod
    def at(cls, folder: Path) -> Project:
        """A project that is there."""
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def copied_to(self, folder: Path) -> Project:
        """A copy of everything, with its times."""
        shutil.copytree(self.folder, folder)
        return type(self).at(folder)

    def write(self, configuration: dict | str) -> None:
        text = configuration if isinstance(configuration, str) else yaml.safe_dump(configuration)
        (self.folder / "config.yaml").write_text(text)

    def environment(self) -> dict[str, str]:
        """Of every command: this Python comes first."""
        return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def snakemake(
        self, *arguments: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """Exit status and everything printed, in stdout.

        Arguments:
            env: of an interpreter of its own; without it, `warm_snakemake` runs the command.
        """
        arguments = ("--cores", "2", *arguments)
        if env is None:
            return _warm_snakemake().run(arguments, self.folder, self.environment())
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self.environment() | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )


def cpu_seconds_of_children() -> float:
    """Of the processes that this one has started and that have ended: unlike the time of day, it
    does not depend on how busy the machine is.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@cache
def _warm_snakemake() -> WarmSnakemake:
    """One for all tests of a process."""
    snakemake = WarmSnakemake()
    atexit.register(snakemake.close)
    return snakemake
