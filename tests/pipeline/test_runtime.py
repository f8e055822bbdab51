"""Minutes of a job from the measured cost of the operator."""

from __future__ import annotations

import json

import pytest

from pflow.config.loading import load_configuration
from pflow.pipeline.runtime import MARGIN, START_MINUTES, measured_minutes, operator_calls

EXPERIMENT = {
    "problem": {"name": "lognormal"},
    "simulate": {"train": 1000, "high_fidelity": 300, "shard_size": 200},
    "observations": {"y": {"seed": 1}},
    "reference": {"kind": "nuts", "draws": 1000, "chains": 2, "tune": 100},
    "flows": {"coupling": {"name": "coupling"}},
    "finetune": {
        "amortized": {"flow": "coupling", "objective": "none"},
        "replay": {
            "flow": "coupling",
            "start": "pretrained",
            "objective": "score_replay",
            "evaluations": 500,
        },
    },
    "sample": {"draws": 2000, "score_draws": 64, "prior_draws": 100},
}


@pytest.fixture(scope="module")
def experiment():
    return load_configuration({"experiments": {"one": EXPERIMENT}}).experiments["one"]


def test_calls_of_the_operator_follow_from_the_settings(experiment):
    assert operator_calls(experiment, "finetune", "replay") == (500, 0)
    assert operator_calls(experiment, "finetune", "amortized") == (0, 0)
    assert operator_calls(experiment, "sample", "replay") == (64, 2100)
    assert operator_calls(experiment, "reference")[0] == 31 * (2 * 100 + 1000)
    assert operator_calls(experiment, "simulate", split="high_fidelity") == (0, 200)
    assert (
        operator_calls(experiment, "simulate") == operator_calls(experiment, "pretrain") == (0, 0)
    )


def test_minutes_follow_the_measured_seconds(tmp_path):
    path = tmp_path / "operator.json"
    assert measured_minutes(path, 10**6) == 0  # nothing measured yet: the configured minutes stand
    path.write_text(json.dumps({"seconds_per_forward": 0.5, "seconds_per_gradient": 2.0}))
    assert measured_minutes(path, 600, 120) == START_MINUTES + MARGIN * (1200 + 60) / 60
    path.write_text(json.dumps({"seconds_per_forward": 0.5, "seconds_per_gradient": None}))
    assert measured_minutes(path, 600) == START_MINUTES + MARGIN * 300 / 60
    path.write_text("{broken")
    assert measured_minutes(path, 1) == 0
