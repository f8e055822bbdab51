"""Bad input: a message that names the key or file, the rule, the value and the way out; nothing
written, nothing lost.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from pflow.cli import main
from pflow.config.loading import load_configuration
from pflow.pipeline.stages import settings_for
from pflow.storage.store import read_arrays, write_arrays
from pflow.storage.weights import read_weights, write_weights
from tests.support.project import TINY, cpu_seconds_of_children

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("problem", {"name": "rosenbrok"}, "did you mean `rosenbrock`"),
        (
            "problem",
            {"name": "rosenbrock", "noise_std": -0.4},
            "`noise_std` (=-0.4) must be positive: set experiments.tiny.problem.noise_std",
        ),
        ("seed", 3, "`experiments.tiny.seed` is not a setting: did you mean `seeds`?"),
        (
            "finetune",
            {"a": {"flow": "missing", "objective": "none"}},
            "must name an entry of `experiments.tiny.flows`",
        ),
    ],
)
def test_a_wrong_configuration_stops_quickly_with_one_message(project, tiny, key, value, expected):
    tiny["experiments"]["tiny"][key] = value
    project.write(tiny)
    began = cpu_seconds_of_children()
    done = project.snakemake(env={})
    assert cpu_seconds_of_children() - began < 5, "2.5 is Snakemake's own start"
    assert done.returncode != 0
    assert expected in done.stdout and "Traceback" not in done.stdout
    assert not (project.folder / "results").exists()


def test_what_is_not_yaml_is_located(project):
    project.write("experiments:\n  tiny: {problem: [\n")
    done = project.snakemake()
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "config.yaml, line 3, column 1: not valid YAML" in done.stdout


def test_results_that_cannot_be_written(project, tiny):
    (project.folder / "occupied").write_text("a file, not a folder")
    tiny["results"] = "occupied/results"
    project.write(tiny)
    done = project.snakemake()
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "`results` (=occupied/results) must be a folder that can be written" in done.stdout


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """A copy of the finished results to spoil, as working directory."""
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/tiny"


def settings(stage: str, **names: str) -> str:
    return settings_for(load_configuration(TINY), stage, "tiny", **names)


def pretrain(folder) -> list[str]:
    shards = [str(folder / f"pairs/train/shard-{k}.zarr/zarr.json") for k in (0, 1)]
    validation = str(folder / "pairs/validation/shard-0.zarr/zarr.json")
    text = settings("pretrain", flow="coupling")
    return [
        "pretrain",
        "--settings",
        text,
        "--train-shards",
        *shards,
        "--validation-shards",
        validation,
        "--out",
        str(folder / "new"),
        "--checkpoint",
        str(folder / "state"),
    ]


def finetune(folder, weights) -> list[str]:
    text = settings("finetune", observation="y1", method="preconditioned", seed="0")
    observation = str(folder / "observations/y1.zarr/zarr.json")
    return [
        "finetune",
        "--settings",
        text,
        "--pretrained",
        str(weights),
        "--observation",
        observation,
        "--out",
        str(folder / "new"),
        "--checkpoint",
        str(folder / "state"),
    ]


def spoil_missing_chunk(folder):
    next(p for p in (folder / "pairs/train/shard-1.zarr/x/c").rglob("*") if p.is_file()).unlink()


def spoil_nan(folder):
    path = folder / "pairs/train/shard-1.zarr"
    arrays, _ = read_arrays(path, ("x", "y"))
    arrays["x"][3] = np.nan
    write_arrays(path, arrays, {})


def spoil_shape(folder):
    path = folder / "pairs/train/shard-1.zarr"
    arrays, _ = read_arrays(path, ("x", "y"))
    write_arrays(path, {"x": arrays["x"], "y": arrays["y"][:, :1]}, {})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_missing_chunk, "shard-1.zarr/x has 0 of its 1 chunks: delete"),
        (spoil_nan, "shard-1.zarr/x must be finite and has 2 NaN"),
        (spoil_shape, "y has samples of the shape (1,), other shards have (2,)"),
    ],
)
def test_spoilt_pairs_stop_pretraining(copied, capsys, spoil, expected):
    spoil(copied)
    assert main(pretrain(copied)) == 1
    assert expected in capsys.readouterr().err
    assert not (copied / "new").exists()


def test_weights_of_another_architecture(copied, capsys):
    tensors, metadata = read_weights(copied / "pretrained/coupling/flow.safetensors")
    architecture = json.loads(metadata["architecture"])
    weights = copied / "other.safetensors"
    write_weights(weights, tensors, {"architecture": json.dumps({**architecture, "depth": 5})})
    assert main(finetune(copied, weights)) == 1
    assert "holds weights of another architecture: depth=5 (expected 2)" in capsys.readouterr().err
    assert not (copied / "new").exists()


def test_weights_that_do_not_fit_their_own_architecture(copied, capsys):
    tensors, metadata = read_weights(copied / "pretrained/coupling/flow.safetensors")
    tensors.popitem()
    write_weights(copied / "other.safetensors", tensors, metadata)
    assert main(finetune(copied, copied / "other.safetensors")) == 1
    assert "does not fit its architecture" in capsys.readouterr().err


def test_other_weights_under_the_name_of_the_right_ones(copied, capsys):
    """They read well and have the same architecture: only the hash in flow.json tells them
    apart.
    """
    weights = copied / "pretrained/coupling/flow.safetensors"
    tensors, metadata = read_weights(weights)
    write_weights(
        weights,
        {
            name: 1.01 * tensor if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        },
        metadata,
    )
    assert main(finetune(copied, weights)) == 1
    assert "must be the weights that flow.json beside it describes" in capsys.readouterr().err
    assert not (copied / "new").exists()


def test_missing_inputs_and_wrong_settings_are_named(copied, capsys):
    assert main(finetune(copied, copied / "nowhere.safetensors")) == 1
    assert "--pretrained" in capsys.readouterr().err
    assert main(["simulate", "--settings", "{not json", "--out", "a.zarr"]) == 1
    assert "--settings is not valid JSON" in capsys.readouterr().err
    assert main(["simulate", "--settings", "absent.json", "--out", "a.zarr"]) == 1
    assert (
        "--settings (=absent.json) must be JSON text or a readable file" in capsys.readouterr().err
    )


def test_a_failed_job_shows_its_message_and_keeps_earlier_results(finished_copy):
    project = finished_copy
    folder = project.folder / "results/tiny"
    spoil_missing_chunk(folder)
    weights = folder / "pretrained/coupling/flow.safetensors"
    weights.unlink()
    before = (folder / "posteriors/y1/amortized/seed-0/metrics.json").read_bytes()
    done = project.snakemake("--retries", "2")
    assert done.returncode != 0
    assert "has 0 of its 1 chunks: delete" in done.stdout and "Traceback" not in done.stdout
    assert (
        done.stdout.count("Trying to restart") == 2
        and "another one would: not tried again" in done.stdout
    )
    assert "What failed, and why:\nresults/tiny/logs/pretrain/coupling.log: error: " in done.stdout
    assert (folder / "posteriors/y1/amortized/seed-0/metrics.json").read_bytes() == before
