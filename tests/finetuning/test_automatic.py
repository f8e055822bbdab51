"""`auto` takes what is faster for the measured cost of F and of a step, and stays with its
choice.
"""

from __future__ import annotations

import json

import pytest
import torch

from pflow.config.methods import (
    AutoSettings,
    ImportanceSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.finetuning import automatic
from pflow.finetuning.automatic import step_seconds
from pflow.flows import build_flow

AUTO = AutoSettings(
    flow="coupling", start="pretrained", evaluations=160
)  # 960 steps: 6 an evaluation


def resolve(*arguments, parameters=100):
    return automatic.resolve(*arguments, parameters=parameters)


def measured(seconds: float) -> dict:
    return {"differentiable": True, "seconds_per_gradient": seconds}


@pytest.mark.parametrize(
    ("operator", "step", "expected"),
    [
        (1.0, 0.01, SurrogateSettings),
        (1e-5, 0.01, ReverseKLSettings),
        (0.01, 0.01, SurrogateSettings),
        (0.01, 1.0, ReverseKLSettings),
        (0.001, 0.0, ReverseKLSettings),
    ],
)
def test_the_faster_of_the_two_is_taken(operator, step, expected):
    method = resolve(AUTO, measured(operator), lambda: step)
    assert isinstance(method, expected) and method.evaluations == 160
    learning, with_paths = operator + 0.05 + 6 * step, 50 * (operator + step / 64)
    assert isinstance(method, SurrogateSettings) == (learning < with_paths)


@pytest.mark.parametrize("parameters", [2, 5000])
def test_few_parameters_and_very_many_are_left_to_score_replay(parameters):
    method = resolve(AUTO, measured(1.0), lambda: 0.01, parameters=parameters)
    assert isinstance(method, ScoreReplaySettings)


def test_the_choice_is_made_once(tmp_path):
    file = tmp_path / "m" / "auto.json"
    assert isinstance(resolve(AUTO, measured(0.01), lambda: 0.01, file), SurrogateSettings)
    assert isinstance(
        resolve(AUTO, measured(0.01), lambda: 1.0, file), SurrogateSettings
    )  # a slow moment of the machine changes nothing
    assert json.loads(file.read_text())["seconds_per_step"] == 0.01
    assert isinstance(
        resolve(AUTO, measured(1e-4), lambda: 1.0, file), ReverseKLSettings
    )  # another operator does
    assert [path.name for path in file.parent.iterdir()] == ["auto.json"]


def test_without_a_gradient_values_have_to_do():
    method = resolve(AUTO, {"differentiable": False, "seconds_per_gradient": None}, lambda: 0.01)
    assert isinstance(method, ImportanceSettings) and method.draw <= method.evaluations == 160


def test_a_broken_file_is_written_again(tmp_path):
    file = tmp_path / "auto.json"
    file.write_text("{")
    assert isinstance(resolve(AUTO, measured(1.0), lambda: 0.01, file), SurrogateSettings)
    assert json.loads(file.read_text())["objective"] == "surrogate"


def test_the_cost_of_the_operator_must_be_known():
    with pytest.raises(PflowError, match="--operator"):
        resolve(AUTO, None, lambda: 0.01)
    replay = ScoreReplaySettings(flow="coupling", start="pretrained", evaluations=10)
    assert resolve(replay, None, lambda: 0.01) is replay


def test_measuring_a_step_changes_nothing():
    flow = build_flow("coupling", (4,), (4,), depth=2, hidden=8)
    before, state = {k: v.clone() for k, v in flow.state_dict().items()}, torch.get_rng_state()
    assert 0 < step_seconds(flow, torch.zeros(1, 4)) < 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items()) and all(
        p.grad is None for p in flow.parameters()
    )
