"""An image through `pflow.infer`: the default flow for its shape, and maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

import pflow
from pflow.operators.adapters import TorchOperator
from pflow.problems.priors import MaternField
from tests.support.small import SMALL

pytestmark = pytest.mark.slow

SHAPE, STD = (1, 8, 8), 0.1
KERNEL = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


def blurred(x: torch.Tensor) -> torch.Tensor:
    return conv2d(x, KERNEL.to(x)[None, None], padding=1)


def test_a_blurred_image_is_recovered_with_maps_and_a_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prior = MaternField((8, 8), length=3.0, shape=SHAPE)
    operator = TorchOperator(blurred, SHAPE, SHAPE, linear=True)
    problem = pflow.problem(operator, prior, STD, name="deblur")
    y = problem.simulate(1, torch.Generator().manual_seed(3), "high", torch.float64)[1]
    settings = {key: SMALL[key] for key in ("simulate", "flows", "sample", "calibrate")}
    result = pflow.infer(problem, y[0].numpy(), 64, settings=settings)

    matrix = blurred(torch.eye(64).double().reshape(64, *SHAPE)).reshape(64, 64).T
    precision = torch.linalg.inv(prior.root @ prior.root.T) + matrix.T @ matrix / STD**2
    mean = torch.linalg.solve(precision, matrix.T @ y.flatten() / STD**2)
    std = torch.linalg.inv(precision).diagonal().sqrt()
    error = (torch.from_numpy(result.draws["x"].values[0]).mean(0).flatten() - mean) / std
    assert error.square().mean().sqrt() < 0.3  # in posterior standard deviations
    assert np.std(result.draws["x"].values[0], 0).mean() == pytest.approx(
        float(std.mean()), rel=0.15
    )
    assert list(result.plots()) == ["maps", "draws", "spectra", "prediction"]
    assert len(result.plot().axes) > 4
