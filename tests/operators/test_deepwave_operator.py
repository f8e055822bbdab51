"""Waves by deepwave: the shots that deepwave gives, exact gradients, and a domain."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import check_operator
from pflow.operators.adapters import ComposedOperator, DeepwaveOperator
from tests.support.draws import draws

deepwave = pytest.importorskip("deepwave")


@pytest.fixture
def waves():
    return DeepwaveOperator(
        grid=(10, 9),
        spacing=10.0,
        time_step=0.001,
        wavelet=deepwave.wavelets.ricker(25.0, 60, 0.001, 0.04),
        sources=torch.tensor([[1, 3], [1, 6]]),
        receivers=torch.tensor([[8, 2], [8, 5]]),
        largest_velocity=2600.0,
        pml_width=4,
        pml_freq=25.0,
    )


def velocities(n):
    return 2000 + 100 * draws(n, 1, 10, 9, seed=13).clamp(-3, 3)


def test_waves_pass_the_checks_in_log_velocity(waves):
    operator = ComposedOperator(waves, lambda x: 2000 * torch.exp(0.05 * x), (1, 10, 9))
    results = check_operator(
        operator, draws(3, 1, 10, 9, seed=14).clamp(-3, 3), torch.Generator().manual_seed(15)
    )
    assert results["taylor_slope"] == pytest.approx(2, abs=0.2) and operator.sources == 2


def test_shots_are_those_of_deepwave_and_can_be_chosen(waves):
    v = velocities(2)
    y = waves(v)
    assert y.shape == (2, 2, 2, 60)
    places = {
        "source_locations": torch.tensor([[[1, 6]]]),
        "receiver_locations": torch.tensor([[[8, 2], [8, 5]]]),
    }
    wavelet = deepwave.wavelets.ricker(25.0, 60, 0.001, 0.04).double()[None, None]
    alone = deepwave.scalar(
        v[1, 0],
        10.0,
        0.001,
        source_amplitudes=wavelet,
        **places,
        max_vel=2600.0,
        pml_width=4,
        pml_freq=25.0,
    ).receiver_amplitudes
    torch.testing.assert_close(y[1, 1], alone[0])
    some = waves.forward_sources(v, torch.tensor([[1], [0]]))
    torch.testing.assert_close(some[:, 0], torch.stack([y[0, 1], y[1, 0]]))


def test_time_steps_that_spoil_the_gradient_are_refused(waves):
    with pytest.raises(
        PflowError, match=r"`time_step` \(=0.002\) must be at most .* \(=0.0016.*more finely"
    ):
        DeepwaveOperator(
            (10, 9),
            10.0,
            0.002,
            torch.ones(5),
            torch.tensor([[1, 3]]),
            torch.tensor([[8, 2]]),
            2600.0,
        )


def test_velocities_that_waves_cannot_have_are_not_simulated(waves):
    v = velocities(3)
    v[1, 0, 4, 4], v[2, 0, 0, 0] = 2700.0, -1.0
    y = waves(v)
    assert y[0].isfinite().all() and y[1:].isnan().all()
    some = ComposedOperator(waves, lambda x: x, (1, 10, 9)).subset(v, torch.tensor([[1], [0], [0]]))
    torch.testing.assert_close(some[0], y[0, 1:])
    assert some.shape == (3, 1, 2, 60) and some[1:].isnan().all()
