"""A method that starts from another method's evaluations: known, counted apart, the same whatever
else that store holds.
"""

from __future__ import annotations

import json

import pytest
import torch

from pflow.config.flows import CouplingFlowSettings
from pflow.config.jobs import FinetuneJobSettings
from pflow.config.method_checks import mistakes_of_methods
from pflow.config.methods import (
    ImportanceSettings,
    NoFinetuningSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
)
from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.stages.finetune import finetune
from pflow.storage.evaluations import finished_run
from pflow.storage.store import write_arrays
from tests.support.record import RECORD

SHARED = {"flow": "coupling", "start": "random"}
FIRST = ReverseKLSettings(**SHARED, evaluations=48, batch=16)
SECOND = ScoreReplaySettings(**SHARED, evaluations=16, draw=16, inner=30, reuse="first")


@pytest.fixture
def run(tmp_path):
    y = torch.randn(4, generator=torch.Generator().manual_seed(0)).numpy()
    write_arrays(tmp_path / "y.zarr", {"y": y}, {})

    def run(name, method, folder="a"):
        here = tmp_path / folder
        settings = FinetuneJobSettings(
            problem_settings("gaussian", side=2),
            CouplingFlowSettings(depth=2, hidden=8),
            method,
            0,
            "cpu",
            "e",
            "o",
            name,
        )
        reuse = here / "first" / "flow.safetensors" if getattr(method, "reuse", "") else None
        out, checkpoint = here / name, here / ".checkpoints/o" / name / "seed-0/state.safetensors"
        out.mkdir(parents=True, exist_ok=True)
        finetune(
            settings,
            RECORD,
            observation=tmp_path / "y.zarr",
            pretrained=None,
            operator=None,
            out=out,
            checkpoint=checkpoint,
            reuse=reuse,
        )
        return (
            json.loads((out / "flow.json").read_text()),
            (out / "flow.safetensors").read_bytes(),
            out,
        )

    return run


@pytest.mark.slow
def test_reused_evaluations_are_known_and_counted_apart(run, tmp_path):
    run("first", FIRST)
    about, weights, out = run("second", SECOND)
    assert (about["evaluations"], about["own_evaluations"], about["reused_evaluations"]) == (
        64,
        16,
        48,
    )
    assert about["checked_evaluations"] == 1, "of those reused, to see whether they still hold"
    lines = (out / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("evaluations")
    assert list(dict.fromkeys(float(line.split(",")[column]) for line in lines[1:])) == [0, 48, 64]
    assert (
        weights != run("alone", ScoreReplaySettings(**SHARED, evaluations=16, draw=16, inner=30))[1]
    )


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_history_of_the_reused_store(run, tmp_path):
    run("first", FIRST, "a")
    run(
        "first", ReverseKLSettings(**SHARED, evaluations=80, batch=8), "b"
    )  # leaves other evaluations behind
    store = tmp_path / "b/.checkpoints/o/first/seed-0/evaluations.zarr"
    run("first", FIRST, "b")
    assert run("second", SECOND, "a")[1] == run("second", SECOND, "b")[1]
    import zarr

    group = zarr.open_group(store, mode="r")
    assert (
        group.attrs["count"] > 48 and len(finished_run(store, group.attrs["identity"])["x"]) == 48
    )


def test_a_missing_store_says_the_way_out(run, tmp_path):
    with pytest.raises(PflowError, match="no evaluations of a completed run.*delete the weights"):
        run("second", SECOND)


def test_another_target_is_refused(run, tmp_path):
    run("first", ImportanceSettings(**SHARED, evaluations=16, draw=16, inner=2))
    with pytest.raises(PflowError, match="hold no scores"):
        run("second", SECOND)


def test_settings_that_cannot_work_are_named():
    def mistakes(**methods):
        return " ".join(mistakes_of_methods("finetune", methods))

    assert mistakes(first=FIRST, second=SECOND) == ""
    assert "must name another method that evaluates scores: there is none" in mistakes(
        second=SECOND
    )
    assert "must name another method" in mistakes(
        first=NoFinetuningSettings(flow="coupling"), second=SECOND
    )
    circle = ScoreReplaySettings(**SHARED, evaluations=16, reuse="second")
    assert "goes in a circle (second -> first -> second)" in mistakes(first=circle, second=SECOND)
    assert "set both alike" in mistakes(
        first=ReverseKLSettings(**SHARED, evaluations=64, sources=2), second=SECOND
    )
    subsets = ScoreReplaySettings(**SHARED, evaluations=16, sources=2, target_ess_fraction=0.5)
    assert "cannot be measured with random `sources`" in mistakes(m=subsets)
