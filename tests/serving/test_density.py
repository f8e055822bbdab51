"""What is served is the density of the delivered posterior: that of the store's draws."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.serving.density import delivered_density, run_with_posterior
from pflow.serving.server import LOWEST, DensityModel
from pflow.storage.datatrees import read_datatree
from tests.support.delivered import deliver, random_flow

VECTOR = {"model_shape": [3], "data_shape": [2]}
COUPLING = {"name": "coupling", **VECTOR, "depth": 2, "hidden": 8}
IMAGE = {"model_shape": [1, 4, 4], "data_shape": [1, 4, 4]}
FLOWS = {
    "coupling": COUPLING,
    "corrected": {
        "name": "latent_gaussian",
        **VECTOR,
        "base": COUPLING,
        "covariance": "dense",
        "rank": 0,
    },
    "affine layer": {"name": "affine", **VECTOR, "base": COUPLING},
    "chint": {"name": "chint", "model_shape": [4], "data_shape": [4], "depth": 2, "hidden": 8},
    "image": {"name": "coupling", **IMAGE, "levels": 1, "depth": 2, "hidden": 4},
}


def delivered(folder, name):
    flow = random_flow(FLOWS[name])
    if name == "affine layer":
        root = torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.3, 0.2, 0.4]])
        flow.set_gaussian(torch.tensor([1.0, -2.0, 0.5]), root)
    return deliver(folder, flow, FLOWS[name])


def model_of(run):
    density = delivered_density(run)
    return DensityModel("posterior", density, density.size)


@pytest.mark.parametrize("name", FLOWS)
def test_log_q_is_that_of_the_store(tmp_path, name):
    run = delivered(tmp_path, name)
    tree = read_datatree(run.posterior)
    model = model_of(run)
    x = tree["posterior"]["x"].values[0].reshape(200, -1)
    served = [model([row.tolist()], {})[0][0] for row in x[:20]]
    stored = torch.from_numpy(tree["sample_stats"]["log_q"].values[0, :20]).double()
    torch.testing.assert_close(torch.tensor(served).double(), stored, rtol=1e-5, atol=1e-4)
    assert stored.std() > 0.5


@pytest.mark.parametrize("name", FLOWS)
def test_the_gradient_is_that_of_finite_differences(tmp_path, name):
    model = model_of(delivered(tmp_path, name))
    size = model.get_input_sizes({})[0]
    x = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    h = 1e-5

    def value(point):
        return model([point.tolist()], {})[0][0]

    differences = torch.tensor(
        [(value(x + h * e) - value(x - h * e)) / (2 * h) for e in torch.eye(size).double()]
    )
    gradient = torch.tensor(model.gradient(0, 0, [x.tolist()], [2.0], {}), dtype=torch.float64)
    torch.testing.assert_close(gradient, 2 * differences.double(), rtol=1e-5, atol=1e-6)
    d = torch.arange(size, dtype=torch.float64)
    slope = model.apply_jacobian(0, 0, [x.tolist()], d.tolist(), {})
    assert slope[0] == pytest.approx(float(gradient @ d) / 2, rel=1e-9)


def test_where_no_float_is_the_density_json_has_a_number(tmp_path):
    model = model_of(delivered(tmp_path, "coupling"))
    far = [[1e200, 0.0, 0.0]]
    assert model(far, {}) == [[LOWEST]] and model.gradient(0, 0, far, [1.0], {}) == [0.0] * 3


def test_a_flow_trained_again_after_the_draws_is_refused(tmp_path):
    run = delivered(tmp_path / "a", "coupling")
    other = deliver(tmp_path / "b", random_flow(COUPLING, seed=5), COUPLING)
    run.weights.write_bytes(other.weights.read_bytes())
    with pytest.raises(PflowError, match="must be the flow that made the draws"):
        delivered_density(run)


def test_a_folder_without_posterior_or_flow_is_refused(tmp_path):
    with pytest.raises(PflowError, match="must be the folder of a run"):
        run_with_posterior(tmp_path)
    run = delivered(tmp_path, "coupling")
    assert run_with_posterior(run.posterior) == run_with_posterior(run.folder) == run
    assert delivered_density(run).names == ("0", "1", "2")
    run.weights.unlink()
    with pytest.raises(PflowError, match=r"must hold the flow .* flow.safetensors"):
        delivered_density(run)
