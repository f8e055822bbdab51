"""`auto` takes what is faster for the measured cost of F and of a step, and stays with its
choice.
"""

from __future__ import annotations

import dataclasses
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


def resolve(*arguments, parameters=100, **more):
    return automatic.resolve(*arguments, parameters=parameters, **more).method


def measured(seconds: float) -> dict:
    return {"differentiable": True, "seconds_per_gradient": seconds}


@pytest.mark.parametrize(
    ("evaluations", "operator", "step", "expected"),
    [
        (160, 1.0, 0.01, SurrogateSettings),
        (160, 1e-5, 0.01, SurrogateSettings),  # too few for path gradients
        (4000, 1.0, 0.01, SurrogateSettings),
        (4000, 1e-5, 0.01, ReverseKLSettings),
        (4000, 0.01, 0.01, SurrogateSettings),
        (4000, 0.0011, 0.0, SurrogateSettings),
        (4000, 0.0009, 0.0, ReverseKLSettings),
    ],
)
def test_path_gradients_are_taken_where_they_are_faster_and_can_be_paid(
    evaluations, operator, step, expected
):
    auto = dataclasses.replace(AUTO, evaluations=evaluations)
    messages = []
    method = resolve(auto, measured(operator), lambda: step, say=messages.append)
    assert isinstance(method, expected) and method.evaluations == evaluations
    learning = evaluations * (operator + 0.05) + min(3000, 6 * evaluations) * step
    with_paths = 50 * evaluations * (operator + step / 64)
    rival = f"{with_paths:.3g} s until path gradients are as accurate"
    if evaluations == 160:
        rival = "path gradients need a budget of 2000 evaluations or more"
    assert messages == [
        f"objective auto takes {expected.tag_value}: about {learning:.3g} s with surrogate,"
        f" {rival} (F takes {operator:.2g} s)"
    ]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [(2, SurrogateSettings), (4096, SurrogateSettings), (4097, ScoreReplaySettings)],
)
def test_only_very_many_parameters_are_left_to_score_replay(parameters, expected):
    method = resolve(AUTO, measured(1.0), lambda: 0.01, parameters=parameters)
    assert isinstance(method, expected)


def test_images_under_a_linear_operator_take_a_model_of_it_at_any_size():
    method = resolve(AUTO, measured(1.0), lambda: 0.01, parameters=128**2, data=128**2, linear=True)
    assert isinstance(method, SurrogateSettings)
    small = dataclasses.replace(AUTO, memory_gb=1e-3)
    method = resolve(
        small, measured(1.0), lambda: 0.01, parameters=128**2, data=128**2, linear=True
    )
    assert isinstance(method, ScoreReplaySettings)


def test_the_choice_is_made_once(tmp_path):
    file, auto = tmp_path / "m" / "auto.json", dataclasses.replace(AUTO, evaluations=4000)
    assert isinstance(resolve(auto, measured(5e-4), lambda: 0.001, file), ReverseKLSettings)
    assert isinstance(
        resolve(auto, measured(5e-4), lambda: 1.0, file), ReverseKLSettings
    )  # a slow moment of the machine changes nothing
    assert json.loads(file.read_text())["seconds_per_step"] == 0.001
    assert isinstance(
        resolve(auto, measured(0.1), lambda: 1.0, file), SurrogateSettings
    )  # another operator does
    assert [path.name for path in file.parent.iterdir()] == ["auto.json"]


@pytest.mark.parametrize(
    ("parameters", "expected"), [(100, SurrogateSettings), (5000, ImportanceSettings)]
)
def test_without_a_gradient_values_have_to_do(parameters, expected):
    facts = {"differentiable": False, "seconds_per_gradient": None}
    method = resolve(AUTO, facts, lambda: 0.01, parameters=parameters)
    assert isinstance(method, expected) and method.evaluations == 160


@pytest.mark.parametrize(
    ("settings", "data", "told"),
    [
        ({"sources": 2}, 10, "a point with 2 random `sources` does not tell all data"),
        ({}, 10_000_000, "a model of F takes about 1.3e+02 GB, and `memory_gb` is 16"),
        ({"memory_gb": 0.01}, 10_000, "a model of F takes about 0.13 GB, and `memory_gb` is 0.01"),
    ],
)
def test_score_replay_stands_in_where_a_model_of_f_cannot_be_learnt(settings, data, told):
    auto, messages = dataclasses.replace(AUTO, **settings), []
    method = resolve(auto, measured(1.0), lambda: 0.01, data=data, say=messages.append)
    assert isinstance(method, ScoreReplaySettings)
    assert method.sources == settings.get("sources", 0)
    assert told in messages[0] and "takes score_replay" in messages[1]


def test_random_sources_need_a_gradient():
    facts = {"differentiable": False, "seconds_per_gradient": None}
    auto = dataclasses.replace(AUTO, sources=2)
    with pytest.raises(PflowError, match=r"`sources` \(=2\) needs the gradient of F"):
        resolve(auto, facts, lambda: 0.01)


@pytest.mark.parametrize(
    ("low", "high", "pays"),
    [
        (0.001, 1e-5, True),  # 500 s
        (0.002, 1e-5, False),  # 1000 s
        (0.002, 10.0, True),  # as long as 160 evaluations take
        (0.02, 10.0, False),
        (None, 1.0, True),  # linear
    ],
)
def test_a_slow_low_fidelity_takes_no_part(low, high, pays):
    messages = []
    operator = measured(high) | {"low_fidelity_seconds_per_gradient": low}
    method = resolve(AUTO, operator, lambda: 0.01, say=messages.append)
    assert isinstance(method, SurrogateSettings) and method.low_fidelity == pays
    assert any("low-fidelity F takes" in line for line in messages) != pays


@pytest.mark.parametrize(
    ("evaluations", "targets", "told"),
    [
        (160, {"target_shift": 0.1}, []),
        (160, {"target_elbo_change": 0.1}, ["surrogate cannot measure target_elbo_change"]),
        (4000, {"target_shift": 0.1}, ["reverse_kl cannot measure target_shift"]),
        (4000, {"target_elbo_change": 0.1}, []),
    ],
)
def test_targets_reach_the_chosen_method_or_it_is_told(evaluations, targets, told):
    auto, messages = dataclasses.replace(AUTO, evaluations=evaluations, **targets), []
    method = resolve(auto, measured(1e-5), lambda: 0.01, say=messages.append)
    for name, target in targets.items():
        assert bool(told) or getattr(method, name) == target
    assert [line for line in messages if "measure" in line] == [
        f"{line}, which stops nothing" for line in told
    ]


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


@pytest.mark.parametrize(
    ("operator", "expected"), [(1.0, 4000 * 1.05 + 30), (1e-5, 4000 * (1e-5 + 0.01 / 64))]
)
def test_the_seconds_of_the_chosen_run_are_predicted(operator, expected):
    auto = dataclasses.replace(AUTO, evaluations=4000)
    choice = automatic.resolve(auto, measured(operator), lambda: 0.01, parameters=100)
    assert choice.predicted_seconds == pytest.approx(expected)
    replay = ScoreReplaySettings(flow="coupling", start="pretrained", evaluations=64)
    given = automatic.resolve(replay, None, lambda: 0.01, parameters=100)
    assert given.method is replay and given.predicted_seconds is None
