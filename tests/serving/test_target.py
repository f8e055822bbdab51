"""The second model of `pflow serve`: likelihood times prior, as in the store's `lp`."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pflow.errors import PflowError
from pflow.serving.server import DensityModel
from pflow.serving.target import target_density
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import RunFolder
from pflow.storage.origins import origin_file, read_origin, write_origin
from tests.support.delivered import sampled_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    return sampled_run(tmp_path_factory.mktemp("run"), draws=100, of_prior=0)


def test_its_values_are_those_of_the_store(run):
    tree, model = read_datatree(run.posterior), DensityModel("target", target_density(run), 4)
    x = tree["posterior"]["x"].values[0, :20]
    served = torch.tensor([model([row.tolist()], {})[0][0] for row in x])
    lp = torch.from_numpy(tree["sample_stats"]["lp"].values[0, :20])
    torch.testing.assert_close(served, lp, rtol=1e-5, atol=1e-3)
    assert lp.std() > 1


def test_its_gradient_is_that_of_finite_differences(run):
    model, h = DensityModel("target", target_density(run), 4), 1e-5
    x = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64)

    def value(point):
        return model([point.tolist()], {})[0][0]

    differences = [
        (value(x + h * e) - value(x - h * e)) / (2 * h) for e in torch.eye(4, dtype=torch.float64)
    ]
    assert model.gradient(0, 0, [x.tolist()], [2.0], {}) == pytest.approx(
        [2 * slope for slope in differences], rel=1e-6
    )


def test_an_operator_without_gradient_has_values_alone(run):
    density = target_density(run)
    density.problem.high_fidelity.differentiable = False
    model = DensityModel("target", density, 4)
    assert not model.supports_gradient() and not model.supports_apply_jacobian()


def test_a_run_whose_target_is_unknown_is_refused(run):
    origin = read_origin(run.posterior)
    try:
        settings = json.loads(origin.settings) | {"prior": {"name": "flow", "flow": "prior"}}
        write_origin(run.posterior, dataclasses.replace(origin, settings=json.dumps(settings)))
        with pytest.raises(PflowError, match=r"its prior \(`flow`\) is not the problem's own"):
            target_density(run)
        origin_file(run.posterior).unlink()
        with pytest.raises(PflowError, match="does not say how its draws were made"):
            target_density(run)
    finally:
        write_origin(run.posterior, origin)
