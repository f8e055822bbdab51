"""Flows that learn from high-fidelity pairs or start from another flow: what is planned, and which
mistakes stop.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.pipeline.inputs import JobInputs
from pflow.pipeline.planned_jobs import planned_jobs
from pflow.pipeline.stages import settings_for
from tests.support.project import TINY


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> dict:
    """`high` continues from `coupling` on 200 pairs of high fidelity."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for count in (200, 100):
        x = random.normal(size=(count, 2))
        np.savez(f"high{count}.npz", x=x, y=x)
    np.savez("wide.npz", x=random.normal(size=(200, 3)), y=random.normal(size=(200, 2)))
    tiny = copy.deepcopy(TINY["experiments"]["tiny"])
    tiny["flows"]["high"] = {
        **tiny["flows"]["coupling"],
        "start": "coupling",
        "pairs": "high_fidelity",
        "pretrain": {"learning_rate": 3e-4},
    }
    return {**tiny, "high_fidelity_pairs": "high200.npz"}


def loaded(experiment: dict):
    return load_configuration({"experiments": {"tiny": experiment}})


def test_the_jobs_and_what_they_read(experiment):
    configuration = loaded(experiment)
    inputs = JobInputs(configuration)
    jobs = {job.result.removeprefix("results/tiny/"): job for job in planned_jobs(inputs)}
    shards = {
        part: f"pairs/high_fidelity_{part}/shard-0.zarr/zarr.json"
        for part in ("train", "validation", "test")
    }
    assert set(shards.values()) <= set(jobs)
    read = {
        flow: inputs.inputs_of("pretrain", jobs[f"pretrained/{flow}/flow.safetensors"].wildcards)
        for flow in ("high", "coupling")
    }
    assert read["high"]["train"] == [f"results/tiny/{shards['train']}"]
    assert read["high"]["validation"] == [f"results/tiny/{shards['validation']}"]
    assert read["high"]["start"] == ["results/tiny/pretrained/coupling/flow.safetensors"]
    assert "high_fidelity" not in str(read["coupling"]) and read["coupling"]["start"] == []
    for flow in read:  # the posterior of high fidelity is wanted of both
        job = jobs[f"pretrained/{flow}/calibration.json"]
        found = inputs.inputs_of("calibrate", job.wildcards)
        assert found["test"] == [f"results/tiny/{shards['test']}"]
        assert found["train"] == read[flow]["train"][:1]
    cut = settings_for(configuration, "simulate", "tiny", split="high_fidelity_test", shard=0)
    source = json.loads(cut)["source"]
    assert (source["file"], source["train"], source["test"]) == ("high200.npz", 0.6, 0.25)


def test_fine_tuning_does_not_depend_on_what_the_flow_has_learnt_from(experiment):
    def text(flow):
        experiment["finetune"]["amortized"]["flow"] = flow
        wildcards = {"observation": "y1", "method": "amortized", "seed": 0}
        return json.loads(settings_for(loaded(experiment), "finetune", "tiny", **wildcards))["flow"]

    assert text("high") == text("coupling")


WRONG = {
    "no file": (
        {"high_fidelity_pairs": None},
        {},
        ["`experiments.tiny.flows.high.pairs` (=high_fidelity) needs", "high_fidelity_pairs`"],
    ),
    "used by no flow": (
        {},
        {"pairs": "low_fidelity"},
        ["`experiments.tiny.high_fidelity_pairs` is used by no flow: set `pairs: high_fidelity`"],
    ),
    "other shape": (
        {"high_fidelity_pairs": "wide.npz"},
        {},
        ["has the shape [3] of one x, and the experiment has [2]"],
    ),
    "too few to calibrate": (
        {"high_fidelity_pairs": "high100.npz"},
        {},
        ["`experiments.tiny.high_fidelity_pairs.test` (=0.25) gives 25 of the 100", "at least 50"],
    ),
    "misspelt start": (
        {},
        {"start": "cuopling"},
        ["flows.high.start` (='cuopling')", "did you mean `coupling`"],
    ),
    "circle": ({}, {"start": "high"}, ["flows.high.start` goes in a circle (high -> high)"]),
    "other architecture": (
        {},
        {"depth": 3},
        ["flows.high.depth` (=3) must be that of `coupling`", "starts from: 2"],
    ),
    "other class": (
        {},
        {"start": "chint"},
        ["flows.high.name` (=coupling) must be that of `chint`"],
    ),
}


@pytest.mark.parametrize(("changes", "of_flow", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_stops_and_names_the_way_out(experiment, changes, of_flow, words):
    experiment["flows"]["high"] |= of_flow
    with pytest.raises(PflowError) as error:
        loaded(experiment | changes)
    assert not [word for word in words if word not in str(error.value)], str(error.value)
