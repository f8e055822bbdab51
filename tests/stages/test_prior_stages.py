"""Priors from files: which density the target gets, and that methods with different priors never
share evaluations.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pflow.config.jobs import SpectrumJobSettings
from pflow.config.priors import (
    FlowPriorSettings,
    GaussianPriorSettings,
    LowFidelityPosteriorSettings,
    ProblemPriorSettings,
)
from pflow.errors import PflowError
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.problems.stationary import StationaryGaussian, estimate_spectrum
from pflow.stages.io.priors import with_prior
from pflow.stages.spectrum import spectrum
from pflow.storage.store import read_arrays, write_arrays
from pflow.storage.weights import write_weights
from tests.support.record import RECORD


@pytest.fixture(scope="module")
def seismic():
    problem = build_problem("seismic", height=16, width=16)
    x, y = problem.simulate(100, torch.Generator().manual_seed(0))
    return problem, x, y[:1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A conditional flow and an unconditional one, whose networks are not zero."""
    folder, settings = tmp_path_factory.mktemp("flows"), {"depth": 2, "hidden": 8, "levels": 1}
    shapes = {"model_shape": [1, 16, 16], "data_shape": [1, 16, 16]}
    conditional = {"name": "coupling", **shapes, **settings}
    for name, architecture in (
        ("conditional", conditional),
        ("unconditional", {"name": "unconditional", **shapes, "base": conditional}),
    ):
        torch.manual_seed(1)
        flow = build_flow(**architecture)
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        write_weights(
            folder / f"{name}.safetensors",
            flow.state_dict(),
            {"architecture": json.dumps(architecture)},
        )
    return folder


def test_the_spectrum_of_all_shards_becomes_the_gaussian_prior(seismic, tmp_path):
    problem, x, y = seismic
    shards = [tmp_path / f"shard-{k}.zarr" for k in range(2)]
    for shard, part in zip(shards, x.split(60), strict=True):
        write_arrays(shard, {"x": part.numpy(), "y": part.numpy()}, {})
    spectrum(
        SpectrumJobSettings("seismic"), RECORD, train_shards=shards, out=tmp_path / "spectrum.zarr"
    )
    found = read_arrays(tmp_path / "spectrum.zarr", ("spectrum",))[0]["spectrum"]
    np.testing.assert_allclose(found, estimate_spectrum(x).numpy(), rtol=1e-6)
    posed = with_prior(problem, GaussianPriorSettings(), tmp_path / "spectrum.zarr", y)
    torch.testing.assert_close(
        posed.log_prior(x[:3]), StationaryGaussian(torch.from_numpy(found)).log_density(x[:3])
    )


def test_the_models_of_a_spectrum_must_be_images(tmp_path):
    write_arrays(tmp_path / "shard.zarr", {"x": np.zeros((4, 3)), "y": np.zeros((4, 3))}, {})
    with pytest.raises(PflowError, match="for images"):
        spectrum(
            SpectrumJobSettings("e"),
            RECORD,
            train_shards=[tmp_path / "shard.zarr"],
            out=tmp_path / "spectrum.zarr",
        )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (FlowPriorSettings("prior"), "unconditional"),
        (LowFidelityPosteriorSettings(), "conditional"),
    ],
)
def test_a_flow_prior_gives_the_target_its_value_and_its_score(seismic, weights, settings, name):
    problem, x, y = seismic
    posed = with_prior(problem, settings, weights / f"{name}.safetensors", y)
    evaluation = Target(posed, y).evaluate(x[:2])
    at = x[:2].clone().requires_grad_(True)
    value = posed.log_prior(at)
    expected = torch.autograd.grad(
        (value + problem.log_likelihood(y, problem.high_fidelity(at))).sum(), at
    )[0]
    torch.testing.assert_close(evaluation.log_prior, value.detach())
    torch.testing.assert_close(evaluation.score, expected)
    assert not any(parameter.requires_grad for parameter in posed.prior.flow.parameters())
    draws = posed.sample_prior(3, torch.Generator().manual_seed(0))
    assert draws.shape == (3, 1, 16, 16) and not draws.requires_grad


def test_an_unconditional_flow_is_one_density_for_all_data_and_a_conditional_one_is_not(
    seismic, weights
):
    problem, x, y = seismic
    other = y + torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    for name, settings, same in (
        ("unconditional", FlowPriorSettings("prior"), True),
        ("conditional", LowFidelityPosteriorSettings(), False),
    ):
        file = weights / f"{name}.safetensors"
        here, there = (
            with_prior(problem, settings, file, at).log_prior(x[:2]) for at in (y, other)
        )
        assert torch.equal(here, there) is same


def test_the_problems_own_prior_needs_no_file_and_others_do(seismic):
    problem, _, y = seismic
    assert with_prior(problem, ProblemPriorSettings(), None, y) is problem
    with pytest.raises(PflowError, match="--prior"):
        with_prior(problem, GaussianPriorSettings(), None, y)
