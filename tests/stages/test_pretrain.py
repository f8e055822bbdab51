"""Pretraining keeps the best epoch, stops by itself and says why."""

from __future__ import annotations

import json

import pytest

from pflow.cli import main
from pflow.config.loading import load_configuration
from pflow.diagnostics.overfitting import validation_course
from pflow.pipeline.stages import settings_for
from pflow.problems import build_problem
from pflow.storage.store import write_arrays
from pflow.storage.text_files import read_csv
from pflow.storage.weights import read_weights
from tests.support.project import TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def pretrained(tmp_path, capsys):
    """Train a large flow on few pairs, with these settings, and return its folder and its log."""
    import torch

    for name, pairs in (("train", 60), ("validation", 100)):
        generator = torch.Generator().manual_seed(pairs)
        x, y = build_problem("rosenbrock").simulate(pairs, generator)
        write_arrays(tmp_path / name, {"x": x.numpy(), "y": y.numpy()}, {})

    def run(name: str, **settings):
        tiny = TINY["experiments"]["tiny"]
        pretrain = {"epochs": 60, "batch": 30, "learning_rate": 1e-2, "schedule": "exponential"}
        flow = {"name": "coupling", "depth": 4, "hidden": 64, "pretrain": pretrain | settings}
        flows = {**tiny["flows"], "coupling": flow}
        configuration = load_configuration({"experiments": {"tiny": {**tiny, "flows": flows}}})
        text = settings_for(configuration, "pretrain", "tiny", flow="coupling")
        out = tmp_path / name
        shards = ["--train-shards", str(tmp_path / "train/zarr.json")]
        shards += ["--validation-shards", str(tmp_path / "validation/zarr.json")]
        places = ["--out", str(out), "--checkpoint", str(tmp_path / f"{name}.state")]
        assert main(["pretrain", "--settings", text, *shards, *places]) == 0
        return out, capsys.readouterr().err

    return run


def test_it_stops_after_the_default_patience_and_advises(pretrained):
    out, log = pretrained("default")
    about = json.loads((out / "flow.json").read_text())
    history = read_csv(out / "history.csv", "epoch", "validation_loss")
    assert about["epochs"] == about["best_epoch"] + 10 < 60
    assert about["stop_reason"] == "no better validation_loss in 10 measurements"
    assert f"after epoch {about['best_epoch']}" in about["advice"] and about["advice"] in log
    losses = history["validation_loss"][history["validation_loss"] == history["validation_loss"]]
    assert about["best_validation_loss"] == pytest.approx(losses.min())
    assert f"after epoch {about['best_epoch']} of {about['epochs']}" in log


def test_the_kept_weights_are_those_of_the_best_epoch(pretrained):
    stopped, _ = pretrained("stopped")
    about = json.loads((stopped / "flow.json").read_text())
    whole, _ = pretrained("whole", patience=0)
    until, _ = pretrained("until", epochs=about["best_epoch"])
    tensors = [read_weights(folder / "flow.safetensors")[0] for folder in (stopped, whole, until)]
    for name, tensor in tensors[0].items():
        assert tensor.equal(tensors[1][name]) and tensor.equal(tensors[2][name]), name
    assert json.loads((whole / "flow.json").read_text())["epochs"] == 60


def test_noise_of_the_last_epochs_is_no_overfitting():
    rows = [{"epoch": k, "validation_loss": loss} for k, loss in enumerate([9.0, 1.0, 0.9, 1.0])]
    assert not validation_course(rows).overfitted and validation_course(rows).advice == ""
    rows[-1]["validation_loss"] = 1.1
    assert validation_course(rows).overfitted
