"""Pretraining shared by two processes (gloo on the CPU) is the pretraining of one, up to
rounding.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pflow.config.decoding import decode
from pflow.config.jobs import SimulateJobSettings
from pflow.config.loading import load_configuration
from pflow.pipeline.stages import settings_for
from pflow.stages.simulate import simulate
from pflow.storage.text_files import read_csv
from pflow.storage.weights import read_weights

pytestmark = [pytest.mark.slow, pytest.mark.long]

CONFIGURATION = {
    "experiments": {
        "tiny": {
            "problem": {"name": "rosenbrock"},
            "simulate": {
                "train": 203,
                "validation": 50,
                "test": 50,
            },  # the last batch has 11 pairs: 6 and 5
            "observations": {"y1": {"x_true": [2, 4]}},
            "flows": {
                "coupling": {
                    "name": "coupling",
                    "depth": 3,
                    "hidden": 16,
                    "pretrain": {"epochs": 4, "patience": 0, "batch": 32},
                },
                "chint": {
                    "name": "chint",
                    "depth": 2,
                    "hidden": 16,
                    "pretrain": {"epochs": 4, "patience": 0, "batch": 32},
                },
            },
            "finetune": {"amortized": {"flow": "coupling", "objective": "none"}},
        }
    }
}


@pytest.fixture
def folder(tmp_path) -> Path:
    configuration = load_configuration(CONFIGURATION)
    for split in ("train", "validation"):
        settings = decode(
            SimulateJobSettings,
            json.loads(settings_for(configuration, "simulate", "tiny", split=split, shard=0)),
            "",
        )
        simulate(settings, {}, out=tmp_path / f"{split}.zarr/zarr.json")
    return tmp_path


def command(
    folder: Path, devices: int, name: str, epochs: int = 4, flow: str = "coupling", nodes: int = 1
) -> list[str]:
    text = settings_for(load_configuration(CONFIGURATION), "pretrain", "tiny", flow=flow).replace(
        '"epochs": 4', f'"epochs": {epochs}'
    )
    shards = [
        f"--{split}-shards={folder}/{split}.zarr/zarr.json" for split in ("train", "validation")
    ]
    places = [
        f"--out={folder / name}",
        f"--checkpoint={folder / name / 'states/state.safetensors'}",
    ]
    return [
        sys.executable,
        "-m",
        "pflow",
        "pretrain",
        "--settings",
        text,
        *shards,
        *places,
        f"--devices={devices}",
        f"--nodes={nodes}",
    ]


def pretrain(folder: Path, devices: int, name: str, **options: int | str) -> Path:
    done = subprocess.run(
        command(folder, devices, name, **options), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return folder / name


FAKE_SRUN = """#!/bin/sh
# srun --nodes=N ... COMMAND: COMMAND once for each node, all of them this machine
while case $1 in --nodes=*) n=${1#*=};; esac; case $1 in -*) true;; *) false;; esac; do shift; done
trap 'kill -TERM $pids' TERM
for i in $(seq "$n"); do "$@" & pids="$pids $!"; done
status=0; for p in $pids; do wait "$p" || status=1; done; exit $status
"""


def differences(first: Path, second: Path) -> float:
    a, b = (read_weights(path / "flow.safetensors")[0] for path in (first, second))
    assert a.keys() == b.keys()
    return max(
        float((a[name].double() - b[name].double()).abs().max()) for name in a if a[name].numel()
    )


@pytest.mark.parametrize("flow", ["coupling", "chint"])
def test_two_processes_have_the_gradients_of_one(folder, flow):
    one, two = pretrain(folder, 1, "one", flow=flow), pretrain(folder, 2, "two", flow=flow)
    assert json.loads((two / "flow.json").read_text())["processes"] == 2
    histories = [read_csv(path / "history.csv") for path in (one, two)]
    for column in ("loss", "gradient_norm", "validation_loss", "step"):
        np.testing.assert_allclose(
            *(history[column] for history in histories), rtol=2e-4, err_msg=column
        )
    np.testing.assert_allclose(*(history["gradient_norm"][:1] for history in histories), rtol=1e-5)
    assert differences(one, two) < 1e-4


def test_two_nodes_have_the_gradients_of_one(folder, monkeypatch):
    """A torchrun on each of two nodes, which meet as in a SLURM job; tests/slurm does the same with
    the real srun.
    """
    (folder / "srun").write_text(FAKE_SRUN)
    (folder / "srun").chmod(0o755)
    one = pretrain(folder, 1, "one")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    two = pretrain(folder, 1, "two", nodes=2)
    assert json.loads((two / "flow.json").read_text())["processes"] == 2
    histories = [read_csv(path / "history.csv") for path in (one, two)]
    np.testing.assert_allclose(*(history["gradient_norm"] for history in histories), rtol=2e-4)
    assert differences(one, two) < 1e-4


def test_without_slurm_the_processes_of_all_nodes_run_here(folder, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert (
        json.loads((pretrain(folder, 1, "two", nodes=2, epochs=1) / "flow.json").read_text())[
            "processes"
        ]
        == 2
    )


def test_a_run_of_two_processes_continues_in_one(folder):
    whole = pretrain(folder, 1, "whole", epochs=60)
    environment = {**os.environ, "PFLOW_CHECKPOINT_SECONDS": "0.1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command(folder, 2, "resumed", epochs=60),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    while not (folder / "resumed/states/state.safetensors.previous").exists():
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM, (folder / "log").read_text()
    assert "the state is saved" in (folder / "log").read_text()
    done = subprocess.run(
        command(folder, 1, "resumed", epochs=60), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "continues after step" in done.stderr
    histories = [read_csv(folder / name / "history.csv") for name in ("whole", "resumed")]
    assert len(histories[0]["step"]) == len(histories[1]["step"]) == 60 * 7 + 1
    np.testing.assert_allclose(*(history["loss"] for history in histories), rtol=0.02, atol=0.02)
    assert differences(whole, folder / "resumed") < 0.05


def test_an_error_of_the_workers_is_told_once_and_not_tried_again(folder):
    next(p for p in (folder / "train.zarr/x/c").rglob("*") if p.is_file()).unlink()
    done = subprocess.run(command(folder, 2, "two"), capture_output=True, text=True, timeout=200)
    assert (
        done.returncode == 1
        and done.stderr.splitlines()[-1].startswith("error: ")
        and "has 0 of its 1 chunks: delete" in done.stderr.splitlines()[-1]
    )
    began = time.monotonic()
    again = subprocess.run(
        [*command(folder, 2, "two"), "--attempt=2"], capture_output=True, text=True, timeout=200
    )
    assert again.returncode == 1 and "not tried again" in again.stderr
    assert time.monotonic() - began < 15
