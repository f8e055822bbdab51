"""Problems on UM-Bridge servers are configured in YAML alone; every mistake is named."""

from __future__ import annotations

import json

import jsonschema
import pytest

from pflow.config.decoding import decode, encode
from pflow.config.problems import ProblemSettings
from pflow.config.schema import schema
from pflow.config.umbridge import UMBridgeProblemSettings, UniformPriorSettings
from pflow.errors import PflowError

GIVEN = {
    "umbridge": "http://localhost:4242",
    "config": {"level": 2, "solver": {"name": "cg"}},
    "low_fidelity": {"config": {"level": 0}},
    "prior": {"name": "uniform", "low": [0], "high": [1, 2]},
    "noise_std": [0.1],
}


def test_settings_survive_the_way_into_a_job():
    settings = decode(ProblemSettings, GIVEN, "problem")
    assert isinstance(settings, UMBridgeProblemSettings)
    assert settings.prior == UniformPriorSettings(low=[0.0], high=[1.0, 2.0])
    assert settings.config == GIVEN["config"] and settings.low_fidelity.config == {"level": 0}
    assert decode(ProblemSettings, json.loads(json.dumps(encode(settings))), "") == settings


def test_the_schema_knows_them():
    experiment = {"problem": GIVEN, "flows": {}, "finetune": {}, "observations": {}}
    jsonschema.validate({"experiments": {"a": experiment}}, schema())


MISTAKES = {
    "no address": ({"umbridge": "localhost:4242"}, "must be the URL of a UM-Bridge server"),
    "noise": ({"noise_std": [0.1, 0]}, r"`problem.noise_std` \(=\[0.1, 0.0\]\) must hold positive"),
    "prior": ({"prior": {"name": "gamma"}}, "must be one of normal, uniform, matern"),
    "a wrong key": ({"modell": "forward"}, "did you mean `?model"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case):
    change, message = MISTAKES[case]
    with pytest.raises(PflowError, match=message):
        decode(ProblemSettings, {**GIVEN, **change}, "problem")
