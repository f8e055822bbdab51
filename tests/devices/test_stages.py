"""Training, sampling, replay, correction: with flows on a second device the stages give what they
give on the CPU, and nothing lies on the wrong device.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from pflow.storage.datatrees import read_datatree
from tests.support.second_device import DEVICE, second_device
from tests.support.staged import StagedExperiment

pytestmark = pytest.mark.slow

TRAINED = {"flow": "coupling", "start": "pretrained", "batch": 16}
VECTOR = {
    "problem": {"name": "gaussian", "side": 5},
    "simulate": {"train": 64, "validation": 32, "test": 50},
    "observations": {"y1": {"seed": 1}},
    "reference": {"kind": "none"},
    "flows": {
        "coupling": {
            "name": "coupling",
            "depth": 2,
            "hidden": 8,
            "pretrain": {"epochs": 2, "batch": 32},
        },
    },
    "finetune": {
        "amortized": {"flow": "coupling", "objective": "none"},
        "reverse_kl": {**TRAINED, "objective": "reverse_kl", "evaluations": 64},
        "score_replay": {
            "flow": "coupling",
            "start": "pretrained",
            "objective": "score_replay",
            "evaluations": 64,
            "inner": 5,
            "correct_latent": True,
        },
        "surrogate": {
            "flow": "coupling",
            "start": "pretrained",
            "objective": "surrogate",
            "evaluations": 32,
        },
        "importance": {
            **TRAINED,
            "objective": "importance",
            "evaluations": 64,
            "draw": 32,
            "inner": 10,
        },
        "latent": {**TRAINED, "objective": "latent", "evaluations": 64},
        "auto": {"flow": "coupling", "start": "random", "objective": "auto", "evaluations": 32},
    },
    "seeds": [0],
    "sample": {"draws": 100, "score_draws": 16, "prior_draws": 20},
}


def on(device: str, monkeypatch):
    """The context in which stages that train and sample use the device."""
    if device == "cpu":
        return nullcontext()
    for stage in ("pretrain", "finetune", "sample"):
        monkeypatch.setattr(f"pflow.stages.{stage}.select_device", lambda *_: DEVICE)
    return second_device()


CHINT = {"name": "chint", "depth": 1, "hidden": 8, "pretrain": {"epochs": 1, "batch": 32}}
FEW = {  # parameters: the model of F may have several modes, and draws teach the flow
    **VECTOR,
    "problem": {"name": "gaussian", "side": 2},
    "flows": {**VECTOR["flows"], "chint": CHINT},
    "finetune": {
        "surrogate": {**VECTOR["finetune"]["surrogate"], "evaluations": 16},
        "seed_paper": {
            "flow": "chint",
            "start": "pretrained",
            "objective": "reverse_kl",
            "gradient": "total",
            "evaluations": 32,
            "batch": 16,
        },
    },
}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    staged = StagedExperiment(tmp_path_factory.mktemp("few"), FEW)
    staged.data()
    return staged


@pytest.fixture(scope="module")
def vector(tmp_path_factory):
    staged = StagedExperiment(tmp_path_factory.mktemp("vector"), VECTOR)
    staged.data()
    return staged


def _prior(staged, method, device, pretrained):
    """The file that the prior of a method is read from."""
    prior = staged.experiment.finetune[method].prior or staged.experiment.prior
    return {
        "problem": lambda: None,
        "flow": lambda: staged.pretrain("prior", device),
        "gaussian": lambda: staged.folder / "spectrum" / "zarr.json",
        "lowfi_posterior": lambda: pretrained,
    }[prior.tag_value]()


def draws(staged, device, method, flow, monkeypatch) -> dict[str, np.ndarray]:
    with monkeypatch.context() as patched, on(device, patched):
        pretrained = staged.pretrain(flow, device)
        prior = _prior(staged, method, device, pretrained)
        weights = staged.finetune(method, device, pretrained, prior)
        tree = read_datatree(staged.sample(method, device, weights, prior))
    return {
        name: tree[group][name].values
        for group, name in (
            ("posterior", "x"),
            ("sample_stats", "log_q"),
            ("sample_stats", "lp"),
            ("score_stats", "score_error"),
        )
    }


def assert_same_on_both(staged, method, flow, monkeypatch):
    here, there = (draws(staged, device, method, flow, monkeypatch) for device in ("cpu", "second"))
    for name, values in here.items():
        np.testing.assert_allclose(there[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("method", VECTOR["finetune"])
def test_vectors_have_the_same_posterior_on_both_devices(vector, method, monkeypatch):
    monkeypatch.setattr("pflow.objectives.surrogate.objective.steps_of", lambda *_: 60)
    assert_same_on_both(vector, method, "coupling", monkeypatch)


@pytest.mark.parametrize(("method", "flow"), [("surrogate", "coupling"), ("seed_paper", "chint")])
def test_a_few_parameters_have_the_same_posterior_on_both_devices(few, method, flow, monkeypatch):
    monkeypatch.setattr("pflow.objectives.surrogate.objective.steps_of", lambda *_: 60)
    assert_same_on_both(few, method, flow, monkeypatch)


IMAGE = {
    "problem": {"name": "seismic", "height": 8, "width": 8},
    "prior": {"name": "flow", "flow": "prior"},
    "simulate": {"train": 48, "validation": 16, "test": 50},
    "observations": {"y1": {"seed": 1}},
    "reference": {"kind": "none"},
    "flows": {
        "coupling": {
            "name": "coupling",
            "depth": 1,
            "hidden": 4,
            "pretrain": {"epochs": 1, "batch": 16},
        },
        "prior": {
            "name": "coupling",
            "conditional": False,
            "depth": 1,
            "hidden": 4,
            "pretrain": {"epochs": 1, "batch": 16},
        },
        "chint": {"name": "chint", "depth": 1, "hidden": 4, "pretrain": {"epochs": 1, "batch": 16}},
    },
    "finetune": {
        "reverse_kl": {
            **TRAINED,
            "objective": "reverse_kl",
            "evaluations": 128,
            "correct_latent": True,
        },
        "score_replay": {**TRAINED, "objective": "score_replay", "evaluations": 32, "inner": 3},
        "gaussian": {
            **TRAINED,
            "objective": "reverse_kl",
            "evaluations": 32,
            "prior": {"name": "gaussian"},
        },
        "seed_paper": {
            "flow": "chint",
            "start": "pretrained",
            "prior": {"name": "lowfi_posterior"},
            "objective": "reverse_kl",
            "gradient": "total",
            "evaluations": 32,
            "batch": 16,
        },
    },
    "seeds": [0],
    "sample": {"draws": 100, "score_draws": 8, "prior_draws": 10},
}
LINEAR = {"flow": "coupling", "start": "pretrained", "objective": "surrogate", "evaluations": 64}
IMAGE["finetune"] |= {
    "linear": {**LINEAR, "steps": 3},
    "linear_gaussian": {**LINEAR, "prior": {"name": "gaussian"}},
}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    staged = StagedExperiment(tmp_path_factory.mktemp("image"), IMAGE)
    staged.data()
    return staged


@pytest.mark.parametrize("method", IMAGE["finetune"])
def test_images_have_the_same_posterior_on_both_devices(image, method, monkeypatch):
    monkeypatch.setattr("pflow.objectives.linear.applies.LARGE", 16)  # 64 parameters are images too
    monkeypatch.setattr("pflow.objectives.linear.latent_steps.DRAWS", 64)
    assert_same_on_both(image, method, IMAGE["finetune"][method]["flow"], monkeypatch)
