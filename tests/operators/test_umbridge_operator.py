"""Models on real UM-Bridge servers as operators, on loopback."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import pytest
import torch

from pflow.errors import STOP_REQUESTED, PassingError, PflowError
from pflow.execution.interruption import DeferredSignals, Interrupted
from pflow.operators import check_operator
from pflow.operators.umbridge import UMBridgeOperator
from tests.support import umbridge_server


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with umbridge_server.serving(tmp_path_factory.mktemp("server")) as address:
        yield address


def draws(n, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(x, scale=1.0):
    a, b, c = x.T
    return scale * torch.stack([a**3 + b, b * c, c.sin()], 1)


def test_inputs_and_outputs_of_a_model_are_one_vector_each(url):
    operator = UMBridgeOperator(url, "forward", {"scale": 2.0}, parallel_requests=3)
    assert operator.model_shape == (3,) and operator.data_shape == (3,)
    x = draws(5)
    torch.testing.assert_close(operator(x), exact(x, 2.0))
    assert operator(x.float()).dtype == torch.float32
    torch.testing.assert_close(pickle.loads(pickle.dumps(operator))(x), exact(x, 2.0))


def test_gradients_sum_over_all_outputs_of_the_model(url):
    operator = UMBridgeOperator(url, "forward", {"scale": 2.0}, parallel_requests=2)
    x = draws(4).requires_grad_()
    v = draws(4, seed=1)
    (wanted,) = torch.autograd.grad(exact(x, 2.0), x, v)
    torch.testing.assert_close(torch.autograd.grad(operator(x), x, v)[0], wanted)
    assert check_operator(operator, x.detach())["gradient_error"] < 1e-6


def test_a_model_without_gradient_has_values_alone(url):
    operator = UMBridgeOperator(url, "values")
    assert not operator.differentiable
    x = draws(2)
    torch.testing.assert_close(operator(x), exact(x))
    with pytest.raises(PflowError, match="has no gradient"):
        operator.vjp(x, x)


@pytest.mark.parametrize("model", ["tangents", "directions"])
def test_the_jacobian_acts_on_directions_where_the_model_can(url, model):
    operator = UMBridgeOperator(url, model, {"scale": 2.0}, parallel_requests=3)
    assert operator.differentiable == (model == "tangents")
    x, d = draws(4), draws(4, seed=1)
    _, wanted = torch.autograd.functional.jvp(lambda x: exact(x, 2.0), x, d)
    torch.testing.assert_close(operator.jvp(x, d), wanted)
    torch.testing.assert_close(pickle.loads(pickle.dumps(operator)).jvp(x, d), wanted)
    assert check_operator(operator, x)["jvp_error"] < 1e-6


def test_a_model_without_the_jacobian_has_no_directions(url):
    operator = UMBridgeOperator(url, "forward")
    assert operator.jvp is None and "jvp_error" not in check_operator(operator, draws(4))


def test_a_wrong_jacobian_is_refused(url):
    with pytest.raises(PflowError, match=r"`UMBridgeOperator.jvp` must be the derivative"):
        check_operator(UMBridgeOperator(url, "wrong"), draws(4))


def test_points_that_json_cannot_hold_are_not_asked(url):
    y = UMBridgeOperator(url, "forward")(torch.tensor([[torch.inf, 0.0, 0.0], [0.0, 1.0, 2.0]]))
    assert y[0].isnan().all() and y[1].isfinite().all()


def test_answers_may_hold_nan_and_infinity(url):
    """As Python writes them, which is no JSON, and null, which servers in C++ write for NaN."""
    x = torch.tensor([[60.0, 1.0, 2.0], [-60.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    y = UMBridgeOperator(url, "holes")(x)
    assert y[:2, 0].isnan().all() and y[0, 1] == torch.inf and y[1, 1] == -torch.inf
    torch.testing.assert_close(y[2], exact(x)[2])


def test_a_shape_of_the_model_fits_its_inputs(url):
    assert UMBridgeOperator(url, "forward", model_shape=(1, 3, 1))(
        torch.ones(2, 1, 3, 1)
    ).shape == (
        2,
        3,
    )
    with pytest.raises(PflowError, match=r"`model_shape` \(=\[4\]\) must have the 3 parameters"):
        UMBridgeOperator(url, "forward", model_shape=(4,))


FAILURES = {
    "no such model": ({"model": "fwd"}, 0.0, "'fwd' must be one of those of .*'forward'"),
    "an exception": ({"model": "moody"}, (60.0, 0.0, 0.0), "HTTP status 500"),
    "too slow": ({"model": "moody", "timeout_s": 0.3}, (0.0, 60.0, 0.0), r"`timeout_s` \(=0.3\)"),
    "wrong size": ({"model": "short"}, 0.0, r"sizes \[2, 1\] that it declares, and answered \[1"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_say_what_the_server_said(url, case):
    settings, point, message = FAILURES[case]
    with pytest.raises(PflowError, match=message):
        UMBridgeOperator(url, **settings)(torch.tensor(point).expand(1, 3))


def test_a_server_that_ends_in_the_middle_and_is_started_again_loses_nothing(tmp_path):
    port, stop = umbridge_server.free_port(), threading.Event()

    def keep_running():
        while not stop.is_set():
            process = umbridge_server.start(port, tmp_path)
            while process.poll() is None and not stop.wait(0.05):
                pass
            process.kill()
            process.wait()

    supervisor = threading.Thread(target=keep_running)
    supervisor.start()
    try:
        operator = UMBridgeOperator(
            f"http://localhost:{port}", "moody", parallel_requests=2, patience_s=60
        )
        x = draws(6)
        x[3, 2] = 60.0
        torch.testing.assert_close(operator(x), exact(x))
        assert (tmp_path / "ended").exists()
    finally:
        stop.set()
        supervisor.join()


def test_a_server_that_stays_away_is_a_transient_error():
    started = time.monotonic()
    with pytest.raises(PassingError, match=r"cannot be reached .* for `patience_s` \(=1\)"):
        UMBridgeOperator(f"http://localhost:{umbridge_server.free_port()}", "forward", patience_s=1)
    assert time.monotonic() - started < 10


def test_a_signal_ends_the_wait_for_a_dead_server_at_once(tmp_path):
    with umbridge_server.serving(tmp_path) as url:
        operator = UMBridgeOperator(url, "forward", parallel_requests=2, patience_s=60)
    signalling = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGTERM))
    started = time.monotonic()
    signalling.start()
    with pytest.raises(Interrupted) as stopped, DeferredSignals():  # as in a training
        operator(draws(3))
    assert time.monotonic() - started < 10 and stopped.value.signal_number == signal.SIGTERM
    assert not STOP_REQUESTED.is_set()


def test_an_address_that_is_no_server_is_said():
    with pytest.raises(PflowError, match="must be the URL of a UM-Bridge server"):
        UMBridgeOperator("localhost:4242", "forward")
