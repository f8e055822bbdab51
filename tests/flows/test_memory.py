"""The three memory modes: the same gradients, and how much each of them keeps."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from pflow.flows import build_flow
from pflow.flows.base import Flow, standard_normal_log_density
from pflow.flows.image_level import Coupling

FLOWS = {"coupling": {"levels": 1}, "coupling, two levels": {"levels": 2}, "chint": {}}
every_flow = pytest.mark.parametrize("case", FLOWS)


def flow_of(
    case: str, memory: str, depth: int = 4, size: int = 8, hidden: int = 8, **settings: object
) -> Flow:
    """In float32, as in use: initialised, and with every weight moved a little where the networks
    start at zero.
    """
    torch.manual_seed(0)
    shape = (1, size, size)
    flow = build_flow(
        case.split(",")[0],
        shape,
        shape,
        depth=depth,
        hidden=hidden,
        memory=memory,
        **FLOWS[case],
        **settings,
    )
    flow.initialise(images(16, size, seed=4), images(16, size, seed=5))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters() if case.startswith("coupling") else ():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return flow.requires_grad_(True)


def images(n: int, size: int = 8, seed: int = 2) -> torch.Tensor:
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def gradients(flow: Flow, use: str) -> list[torch.Tensor]:
    """Of what the objectives ask for, in the weights or in x."""
    x, y = images(6).requires_grad_(), images(6, seed=3)
    parameters = list(flow.parameters())
    if use == "likelihood of pairs":
        return torch.autograd.grad(flow.log_prob_pairs(x, y).sum(), [x, *parameters])
    if use == "score":
        return torch.autograd.grad(flow.log_prob(x, y[:1]).sum(), x)
    z = x.detach().requires_grad_()
    sample, log_determinant = flow.inverse(z, y[:1])
    log_q = standard_normal_log_density(z) - log_determinant
    if use == "path gradient":  # log q at frozen weights, as objectives/reverse_kl has it
        frozen = {name: parameter.detach() for name, parameter in flow.named_parameters()}
        again, log_determinant = functional_call(flow, frozen, (sample, y[:1]))
        log_q = standard_normal_log_density(again) + log_determinant
    loss = (log_q + sample.square().flatten(1).sum(1)).sum()
    found = torch.autograd.grad(
        loss, [z, *parameters], allow_unused=True, retain_graph=True
    )  # twice: a score error comes first
    again = torch.autograd.grad(loss, [z, *parameters], allow_unused=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(found, again, strict=True))
    return [gradient for gradient in again if gradient is not None]


USES = ["likelihood of pairs", "score", "total gradient", "path gradient"]


@every_flow
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("depth", [4, 20])
def test_checkpoint_has_the_gradients_of_store_bit_for_bit(case: str, use: str, depth: int) -> None:
    """Also for more blocks than there are groups of them."""
    stored, checkpointed = (
        gradients(flow_of(case, memory, depth), use) for memory in ("store", "checkpoint")
    )
    assert len(stored) == len(checkpointed) > 0
    assert all(torch.equal(a, b) for a, b in zip(stored, checkpointed, strict=True))


@every_flow
@pytest.mark.parametrize("use", USES)
def test_invert_has_the_gradients_of_store_up_to_rounding(case: str, use: str) -> None:
    """48 blocks in float32; the whole gradient's relative error. Of chint 12, as many as the paper
    has: at initial weights its gates shrink what depends on x in every block, and their inverses
    lose a digit in every five.
    """
    depth = {"coupling": 48, "coupling, two levels": 24, "chint": 12}[case]
    stored, inverted = (
        gradients(flow_of(case, memory, depth), use) for memory in ("store", "invert")
    )
    error = torch.stack([(a - b).norm() for a, b in zip(stored, inverted, strict=True)]).norm()
    assert error < 1e-3 * torch.stack([a.norm() for a in stored]).norm()


def bytes_of_a_sample(case: str, memory: str, depth: int, direction: str) -> float:
    """What the peak of forward and backward grows by with each sample of the batch: weights and
    their gradients do not count.
    """

    def peak(batch: int) -> int:
        flow = flow_of(case, memory, depth, size=16, hidden=16)
        x, y = images(batch, 16), images(1, 16, seed=3)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            if direction == "forward":
                flow.log_prob(x, y).sum().backward()
            else:
                sample, log_q = flow.sample_with_log_prob(y, batch)
                (sample.square().flatten(1).sum(1) + log_q).sum().backward()
        events = [
            event
            for event in profiled.profiler.kineto_results.events()
            if event.name() == "[memory]"
        ]
        return max(
            accumulate(
                event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())
            )
        )

    return (peak(6) - peak(2)) / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "direction"), [("coupling", "forward"), ("coupling", "inverse"), ("chint", "forward")]
)
def test_memory_hardly_grows_with_depth(case: str, direction: str) -> None:
    """From 12 to 48 blocks by less than a tenth; `store` takes more than four times as much with 12
    already.
    """
    for memory in ("checkpoint", "invert"):
        shallow, deep = (bytes_of_a_sample(case, memory, depth, direction) for depth in (12, 48))
        assert deep < 1.1 * shallow, memory
        assert 4 * shallow < bytes_of_a_sample(case, "store", 12, direction), memory


@pytest.mark.parametrize("memory", ["store", "checkpoint", "invert"])
def test_bfloat16_networks_keep_inverse_and_log_determinant(memory: str) -> None:
    """The couplings are float32: both directions call the same network on the same half, up to the
    rounding of what came before.
    """
    full, mixed = (
        flow_of("coupling, two levels", memory, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    x, y = images(16), images(16, seed=3)
    z, log_determinant = mixed(x, y)
    assert z.dtype == log_determinant.dtype == torch.float32
    again, log_determinant_inverse = mixed.inverse(z, y)
    assert (again - x).abs().max() < 1e-2 and (
        again - x
    ).square().mean().sqrt() < 1e-3  # bfloat16 itself is good to 4e-3
    assert (log_determinant + log_determinant_inverse).abs().max() < 1e-2
    exact, exact_log_determinant = full(x, y)
    assert 1e-6 < (z - exact).square().mean().sqrt() < 2e-2  # coarser, and close
    assert (log_determinant - exact_log_determinant).abs().max() < 0.1
    mixed.log_prob(x, y).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32
        for parameter in mixed.parameters()
    )


@pytest.mark.parametrize(("depth", "evaluations"), [(4, 7), (32, 78)])
def test_checkpoint_computes_nothing_again_that_it_could_have_kept(
    depth: int, evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 4 couplings twice but the last, with which the backward pass begins. Of 16 groups of
    two: the last pair costs one more, each other pair two, and its first once again.
    """
    seen: list[object] = []
    once = Coupling.forward
    monkeypatch.setattr(
        Coupling, "forward", lambda step, *arguments: seen.append(step) or once(step, *arguments)
    )
    flow = flow_of("coupling", "checkpoint", depth)
    seen.clear()
    flow.log_prob(images(2), images(2, seed=3)).sum().backward()
    assert len(seen) == evaluations
