"""Pretraining keeps the best epoch, stops by itself and says why."""

from __future__ import annotations

import json

import pytest
import torch

from pflow.cli import main
from pflow.config.decoding import decode, encode
from pflow.config.flows import FlowSettings
from pflow.config.jobs import PretrainJobSettings
from pflow.config.loading import load_configuration
from pflow.data.pair_stream import TensorPairs
from pflow.diagnostics.overfitting import validation_course
from pflow.objectives.maximum_likelihood import mean_negative_log_likelihood
from pflow.pipeline.stages import settings_for
from pflow.problems import build_problem
from pflow.stages.io.weights import load_flow
from pflow.storage.store import write_arrays
from pflow.storage.text_files import read_csv
from pflow.storage.weights import read_weights
from tests.support.project import TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def pretrained(tmp_path, capsys):
    """Train a large flow on few pairs, with these settings, and return its folder and its log."""
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


def test_few_high_fidelity_pairs_improve_a_flow_that_learnt_from_low_fidelity(tmp_path):
    problem = build_problem("rosenbrock")

    def simulated(name: str, count: int, fidelity: str) -> str:
        generator = torch.Generator().manual_seed(len(name) + count)
        x, y = problem.simulate(count, generator, fidelity=fidelity)
        write_arrays(tmp_path / name, {"x": x.numpy(), "y": y.numpy()}, {})
        return str(tmp_path / name / "zarr.json")

    low = [simulated("low", 4000, "low"), simulated("low-validation", 500, "low")]
    high = [simulated("high", 160, "high"), simulated("high-validation", 80, "high")]
    x, y = problem.simulate(2000, torch.Generator().manual_seed(9), fidelity="high")
    coupling = {"name": "coupling", "depth": 4, "hidden": 32}
    on_high = {**coupling, "pairs": "high_fidelity"}
    few = {"epochs": 100, "batch": 32, "learning_rate": 3e-4, "patience": 20}
    flows = {
        "low": {**coupling, "pretrain": {"epochs": 8, "learning_rate": 2e-3}},
        "high": {**on_high, "start": "low", "pretrain": few},
        "alone": {**on_high, "pretrain": few | {"learning_rate": 1e-3}},
    }

    def loss(name: str) -> float:
        flow = decode(FlowSettings, flows[name], name)
        settings = PretrainJobSettings(flow, "cpu", "tiny", name)
        train, validation = high if flow.pairs == "high_fidelity" else low
        options = ["--train-shards", train, "--validation-shards", validation]
        if flow.start:
            options += ["--start", str(tmp_path / flow.start / "flow.safetensors")]
        options += ["--out", str(tmp_path / name), "--checkpoint", str(tmp_path / f"{name}.state")]
        text = json.dumps(encode(settings), sort_keys=True)
        assert main(["pretrain", "--settings", text, *options]) == 0
        network, _ = load_flow(tmp_path / name / "flow.safetensors", torch.device("cpu"))
        return mean_negative_log_likelihood(network, TensorPairs(x, y))

    before, after, alone = (loss(name) for name in flows)
    assert after < before - 0.5 and after < alone - 0.1, (before, after, alone)
    about = json.loads((tmp_path / "high/flow.json").read_text())
    assert (about["pairs"], about["start"]) == ("high_fidelity", "low")


def test_noise_of_the_last_epochs_is_no_overfitting():
    rows = [{"epoch": k, "validation_loss": loss} for k, loss in enumerate([9.0, 1.0, 0.9, 1.0])]
    assert not validation_course(rows).overfitted and validation_course(rows).advice == ""
    rows[-1]["validation_loss"] = 1.1
    assert validation_course(rows).overfitted
