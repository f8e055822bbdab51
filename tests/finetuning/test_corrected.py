"""The stage with `correct_latent`: within the budget, closer to the posterior, said in flow.json,
and drawn from like any flow.
"""

from __future__ import annotations

import csv
import json

import pytest
import torch

from pflow.config.flows import CouplingFlowSettings
from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import (
    ImportanceSettings,
    LatentGaussianSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
)
from pflow.config.problems import problem_settings
from pflow.config.user_problems import UserProblemSettings
from pflow.errors import PflowError
from pflow.finetuning.correction import wants_correction
from pflow.flows.latent import LatentGaussian
from pflow.stages.finetune import finetune
from pflow.stages.io.weights import load_flow
from pflow.storage.store import write_arrays
from tests.support.record import RECORD

SHARED = {"flow": "coupling", "start": "random"}


@pytest.fixture
def run(tmp_path):
    write_arrays(
        tmp_path / "y.zarr",
        {"y": torch.randn(16, generator=torch.Generator().manual_seed(0)).numpy()},
        {},
    )

    def run(name, problem=None, **settings):
        out, checkpoint = (
            tmp_path / name,
            tmp_path / f".checkpoints/o/{name}/seed-0/state.safetensors",
        )
        out.mkdir(exist_ok=True)
        method = ReverseKLSettings(
            **SHARED, evaluations=960, batch=8, learning_rate=1e-2, **settings
        )
        stage = FinetuneJobSettings(
            problem or problem_settings("gaussian", side=4),
            CouplingFlowSettings(depth=2, hidden=4),
            method,
            0,
            "cpu",
            "e",
            "o",
            name,
        )
        finetune(
            stage,
            RECORD,
            observation=tmp_path / "y.zarr",
            pretrained=None,
            operator=None,
            out=out,
            checkpoint=checkpoint,
        )
        rows = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
        return (
            json.loads((out / "flow.json").read_text()),
            [float(row["kl_reverse_nats"]) for row in rows if row["kl_reverse_nats"]],
            out,
        )

    return run


@pytest.mark.slow
def test_the_corrected_flow_is_closer_for_the_same_evaluations(run, capsys):
    plain, before, _ = run("plain")
    corrected, after, out = run("corrected", correct_latent=True)
    assert (
        plain["evaluations"] == 960 >= corrected["evaluations"] > 720
        and "latent_correction" not in plain
    )
    assert after[-1] < 0.5 * min(before[-1], after[-2])
    assert (
        "at points left out from" in corrected["latent_correction"]
        and corrected["latent_correction"] in capsys.readouterr().err
    )
    last = list(csv.DictReader((out / "history.csv").read_text().splitlines()))[-1]
    assert float(last["evaluations"]) == corrected["evaluations"]  # those of the test included
    flow, _ = load_flow(out / "flow.safetensors", torch.device("cpu"))
    assert isinstance(flow, LatentGaussian)
    assert flow.sample(torch.zeros(1, 16), 3, torch.Generator().manual_seed(0)).isfinite().all()
    _, _, second = run("again", correct_latent=True)
    assert (second / "flow.safetensors").read_bytes() == (out / "flow.safetensors").read_bytes()


def test_a_problem_from_outside_has_its_shape_from_its_class(run, tmp_path):
    module = tmp_path / "users_field.py"
    module.write_text(
        "from pflow.problems import Gaussian\n\n\ndef make() -> Gaussian:\n    return"
        " Gaussian(side=4)\n"
    )
    about, _, _ = run(
        "outside", UserProblemSettings(module=module, name="make"), correct_latent=True
    )
    assert "latent_correction" in about


def test_a_matrix_that_would_be_too_large_is_refused(run):
    with pytest.raises(
        PflowError, match=r"parameters \(=16384\).*remove it from experiments.e.finetune.large"
    ):
        run("large", problem_settings("seismic", height=128, width=128), correct_latent=True)


@pytest.mark.parametrize(
    ("method", "unknowns", "points", "wanted"),
    [
        (ReverseKLSettings(**SHARED, evaluations=9), 1024, 5000, False),
        (ReverseKLSettings(**SHARED, evaluations=9, correct_latent=True), 4, 5, True),
        (ScoreReplaySettings(**SHARED, evaluations=9), 1024, 2000, True),
        (ScoreReplaySettings(**SHARED, evaluations=9), 1024, 1000, False),
        (ScoreReplaySettings(**SHARED, evaluations=9), 512, 2000, False),
        (ScoreReplaySettings(**SHARED, evaluations=9), 10_000, 20_000, False),
        (ScoreReplaySettings(**SHARED, evaluations=9, correct_latent=False), 1024, 2000, False),
        (LatentGaussianSettings(**SHARED, evaluations=9), 1024, 2000, False),
        (ImportanceSettings(**SHARED, evaluations=9), 1024, 2000, False),
    ],
)
def test_who_gets_a_correction(method, unknowns, points, wanted):
    assert wants_correction(method, (unknowns,), points) is wanted
