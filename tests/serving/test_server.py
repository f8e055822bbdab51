"""`python -m pflow serve`, a process on loopback that another sampler asks."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from pflow.flows import build_flow
from tests.support.delivered import deliver
from tests.support.umbridge_server import ROOT, free_port

pytestmark = pytest.mark.slow

SHAPES = {"model_shape": [2], "data_shape": [1]}
IDENTITY = {"name": "coupling", **SHAPES, "depth": 2, "hidden": 4}  # before it is trained
GAUSSIAN = {"name": "affine", **SHAPES, "base": IDENTITY}
MEAN, ROOT_OF_COVARIANCE = np.array([1.0, -2.0]), np.array([[0.5, 0.0], [0.6, 0.8]])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose posterior is N(m, S S^T)."""
    flow = build_flow(**GAUSSIAN)
    flow.set_gaussian(torch.from_numpy(MEAN), torch.from_numpy(ROOT_OF_COVARIANCE))
    return deliver(tmp_path_factory.mktemp("run"), flow, GAUSSIAN)


def command(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pflow", "serve", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_another_sampler_reaches_the_posterior_and_ctrl_c_ends_the_server(run):
    import umbridge

    port = free_port()
    server = command(run.folder, "--port", port)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("localhost", port)) == 0:
                    break
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.1)
        posterior = umbridge.HTTPModel(f"http://localhost:{port}", "posterior")
        assert posterior.get_input_sizes() == [2] and posterior.get_output_sizes() == [1]
        whitening = np.linalg.inv(ROOT_OF_COVARIANCE)
        peak = -np.log(2 * np.pi) - np.log(np.linalg.det(ROOT_OF_COVARIANCE))
        assert posterior([MEAN.tolist()])[0][0] == pytest.approx(peak, abs=1e-6)
        draws = _random_walk(posterior, 1500)
        white = (draws[200:] - MEAN) @ whitening.T
        assert abs(white.mean(0)).max() < 0.4 and abs(white.std(0) - 1).max() < 0.3
    finally:
        server.send_signal(signal.SIGINT)
        said, complaints = server.communicate(timeout=60)
    assert server.returncode == 0 and "Traceback" not in complaints, complaints
    assert f"http://localhost:{port}" in said and 'umbridge.HTTPModel("http' in said


def _random_walk(posterior, steps: int) -> np.ndarray:
    """Metropolis with steps of about the posterior's width, by values alone."""
    random = np.random.default_rng(0)
    x, value, draws = np.zeros(2), -np.inf, []
    for _ in range(steps):
        proposed = x + 1.5 * ROOT_OF_COVARIANCE @ random.standard_normal(2)
        new = posterior([proposed.tolist()])[0][0]
        if np.log(random.random()) < new - value:
            x, value = proposed, new
        draws.append(x)
    return np.array(draws)


def test_a_taken_port_is_said(run):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = command(run.folder, "--port", port)
        _, complaints = refused.communicate(timeout=120)
    assert refused.returncode == 1 and "Traceback" not in complaints, complaints
    assert f"`--port` (={port}) must be free" in complaints


def test_a_target_that_is_unknown_is_said(run):
    refused = command(run.folder, "--target")  # this run does not say what made it
    _, complaints = refused.communicate(timeout=120)
    assert refused.returncode == 1 and "leave out --target" in complaints
    assert "Traceback" not in complaints


def test_a_folder_that_is_no_run_is_said(tmp_path):
    refused = command(tmp_path)
    _, complaints = refused.communicate(timeout=120)
    assert refused.returncode == 1 and "must be the folder of a run" in complaints
    assert "Traceback" not in complaints
