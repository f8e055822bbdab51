"""`chint` against the equations of the released code, written out for one pair, and its
initialisations.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pflow.flows.chint import ConditionalHint
from pflow.flows.hint import HintLane, ResidualBlocks, couple, uncouple


def flow_of(size: int, depth: int = 2, spread: float = 0.2) -> ConditionalHint:
    torch.manual_seed(0)
    flow = ConditionalHint((size,), (size,), depth=depth, hidden=10).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += spread * torch.randn_like(parameter)
    return flow


def residual_block(u: Tensor, blocks: ResidualBlocks, k: int) -> tuple[Tensor, Tensor]:
    first = torch.relu(u @ blocks.weight_1[k] + blocks.bias_1[k, 0])
    second = torch.relu(first + first @ blocks.weight_2[k] + blocks.bias_2[k, 0])
    logit, shift = torch.relu(second @ blocks.weight_3[k]).chunk(2)
    return torch.sigmoid(logit), shift


def hint(x: Tensor, lane: HintLane, k: int, scale: int = 0) -> Tensor:
    a, b = x.chunk(2)
    gate, shift = residual_block(a, lane.levels[scale], k)
    if len(x) > 4:
        return torch.cat((hint(a, lane, k, scale + 1), gate * hint(b, lane, k, scale + 1) + shift))
    return torch.cat((a, gate * b + shift))


def permuted(x: Tensor, lane: HintLane, k: int) -> Tensor:
    x = x * lane.scale[k] + lane.shift[k]
    for v in lane.rotation.vectors[k]:
        x = x - 2 * v * (x @ v) / (v @ v)
    return x


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_blocks_follow_the_released_equations(size: int) -> None:
    flow = flow_of(size)
    x = x_0 = torch.randn(size, dtype=torch.float64)
    y = y_0 = torch.randn(size, dtype=torch.float64)
    for k in range(flow.depth):
        y_p, x_p = permuted(y, flow.data_lane, k), permuted(x, flow.model_lane, k)
        gate, shift = residual_block(y_p, flow.conditional, k)
        x, y = gate * hint(x_p, flow.model_lane, k) + shift, hint(y_p, flow.data_lane, k)
    torch.testing.assert_close(flow(x_0[None], y_0[None])[0][0], x)

    both = torch.cat((x_0, y_0))[None]
    torch.testing.assert_close(  # the joint density is that of the two outputs
        flow.log_prob_pairs(both[:, :size], both[:, size:])[0],
        torch.distributions.Normal(0.0, 1.0).log_prob(torch.cat((x, y))).sum()
        + torch.autograd.functional.jacobian(
            lambda v: joint(flow, v[:size], v[size:]), both[0]
        ).slogdet()[1],
    )


def joint(flow: ConditionalHint, x: Tensor, y: Tensor) -> Tensor:
    _, z_y, _ = flow._permuted_data(y[None], whole_lane=True)
    return torch.cat((flow(x[None], y[None])[0][0], z_y[0]))


@pytest.mark.parametrize(("size", "levels"), [(2, 1), (4, 1), (8, 2), (16, 3), (32, 4)])
def test_recursion_halves_channels_while_there_are_more_than_four(size: int, levels: int) -> None:
    assert len(flow_of(size).model_lane.levels) == levels


def test_initial_weights_are_the_centres_of_glorot_kernels() -> None:
    torch.manual_seed(0)
    blocks = ResidualBlocks(depth=200, channels=2, hidden=16)
    for weight, inputs, outputs in (
        (blocks.weight_1, 2, 16),
        (blocks.weight_2, 16, 16),
        (blocks.weight_3, 16, 4),
    ):
        bound = (6 / (9 * inputs + 9 * outputs)) ** 0.5
        assert 0.99 * bound < weight.abs().max() <= bound
    assert not blocks.bias_1.any() and not blocks.bias_2.any()


def test_initialise_normalises_what_enters_every_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation keeps the mean at zero and the sum of the variances, so its results show that
    ActNorm did its work.
    """
    torch.manual_seed(0)
    flow, results = ConditionalHint((4,), (4,), depth=3, hidden=8).double(), []
    original = HintLane.initialise
    monkeypatch.setattr(
        HintLane, "initialise", lambda *given: results.append(original(*given)) or results[-1]
    )
    flow.initialise(4 * torch.randn(300, 4).double() - 2, torch.randn(300, 4).double() ** 2)
    assert len(results) == 6
    for result in results:
        torch.testing.assert_close(
            result.mean(0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-10
        )
        torch.testing.assert_close(result.var(0).sum(), torch.tensor(4.0, dtype=torch.float64))


@pytest.mark.parametrize("size", [2, 8])
def test_initialise_inverse_normalises_the_samples(size: int) -> None:
    """The latents that set the ActNorms come out of the sampling direction with mean 0 and variance
    1.
    """
    torch.manual_seed(0)
    flow = ConditionalHint((size,), (size,), depth=3, hidden=8).double()
    flow.initialise_inverse(400, torch.zeros(1, size).double(), torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    z_x, z_y = flow.draw_latent(400, generator), flow.draw_latent(400, generator)

    y, lane = z_y, flow.data_lane
    for matrix, offset, levels in reversed(
        list(zip(*lane.affine(inverse=True), lane.weights(), strict=True))
    ):
        y = torch.addmm(offset, uncouple(y, levels, []), matrix)
    for sample in (flow.inverse(z_x, y)[0], y):
        torch.testing.assert_close(
            sample.mean(0), torch.zeros(size, dtype=torch.float64), rtol=0, atol=1e-9
        )
        torch.testing.assert_close(sample.std(0), torch.ones(size, dtype=torch.float64))
    assert flow.initialised


def test_gates_only_shrink_and_shift_upwards() -> None:
    flow = flow_of(2, spread=1.0)
    y = 3 * torch.randn(500, 2).double()
    _, scales, shifts = flow._conditional_gates(flow._permuted_data(y)[0])
    assert scales.min() >= 0.5 and scales.max() <= 1 and shifts.min() >= 0


@pytest.mark.parametrize("size", [4, 16])
def test_uncouple_inverts_couple_with_the_same_log_scales(size: int) -> None:
    flow, x = flow_of(size), torch.randn(7, size).double()
    levels, there, back = flow.model_lane.weights()[0], [], []
    torch.testing.assert_close(uncouple(couple(x, levels, there), levels, back), x)
    torch.testing.assert_close(sum(t.sum(1) for t in there), sum(t.sum(1) for t in back))
