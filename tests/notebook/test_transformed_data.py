"""What a flow sees of the data, a user's summary and its logarithm, is the same in every stage; the
likelihood sees the data themselves.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import pflow
from pflow.errors import PflowError
from tests.support.small import small_experiment

pytestmark = pytest.mark.slow

NOISE, REPEATS = 0.02, 10
PROBLEM = f"""
import torch
from pflow.operators.adapters import TorchOperator
from pflow.problems import Problem


class Decay(Problem):
    '''Two rates exp(x), each measured {REPEATS} times.'''

    name = "decay"

    def __init__(self, noise_std: float = {NOISE}) -> None:
        F = TorchOperator(
            lambda x: x.exp().repeat_interleave({REPEATS}, 1), (2,), ({2 * REPEATS},)
        )
        super().__init__(F, F, noise_std, ("a", "b"))

    @staticmethod
    def model_shape_of(settings):
        return (2,)

    def sample_prior(self, n, generator=None, dtype=torch.float32):
        return 0.7 * torch.randn(n, 2, generator=generator).to(dtype)

    def log_prior(self, x):
        return -0.5 * (x / 0.7).square().sum(1) - 2 * torch.tensor(0.7 * 2.5066283).log()

    def summary(self, y):
        return y.unflatten(1, (2, {REPEATS})).mean(2)
"""
SETTINGS = {
    **{key: small_experiment({}, (2,), 64)[key] for key in ("sample", "calibrate", "finetune")},
    "simulate": {"train": 4000, "validation": 300, "test": 300},
    "flows": {"flow": {"depth": 4, "hidden": 32, "pretrain": {"epochs": 12}}},
}


def inferred(tmp_path, y, name="decay", problem=None, **flow):
    module = tmp_path / f"{name}.py"
    module.write_text(PROBLEM)
    settings = SETTINGS | {"flows": {"flow": SETTINGS["flows"]["flow"] | flow}}
    return pflow.infer(
        {"module": str(module), "name": "Decay", **(problem or {})},
        y,
        evaluations=64,
        folder=tmp_path / "results",
        settings=settings,
    )


def data(x=(1.5, -1.5)):
    random = np.random.default_rng(0)
    return np.exp(np.repeat(x, REPEATS)) + NOISE * random.normal(size=2 * REPEATS)


def test_summary_and_logarithm_reach_every_stage(tmp_path):
    y = data()
    result = inferred(tmp_path, y, data_transform="log")
    means = y.reshape(2, REPEATS).mean(1)
    std = NOISE / np.sqrt(REPEATS) / means
    x = result.draws["x"]
    np.testing.assert_allclose(x.mean(("chain", "draw")), np.log(means), atol=3 * std.max())
    folder = next(tmp_path.rglob("pretrained/flow"))
    about = json.loads((folder / "flow.json").read_text())["architecture"]
    assert about["name"] == "log_data" and about["data_shape"] == [2]
    at = json.loads((folder / "calibration.json").read_text())["observations"]["y"]
    assert at["ood_p_value"] > 0.01


@pytest.mark.parametrize(("place", "changes"), [("observed", {}), ("trained", {"noise_std": 5.0})])
def test_data_without_a_logarithm_are_refused(tmp_path, place, changes):
    y = data()
    if place == "observed":
        y[:REPEATS] -= 10
    with pytest.raises(PflowError, match="must be positive for `data_transform: log`"):
        inferred(tmp_path, y, place, changes, data_transform="log")
