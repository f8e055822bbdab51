"""One contestant of benchmarks/flows.py: python flow_steps.py vector|image NAME PARAMETERS, then on
standard input a number of steps a line.

Answers with a line of JSON each time: first its size and memory, then the median process time of a
step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

DEPTH = {"vector": 8, "image": 12}
HIDDEN = 64
LogProb = Callable[[Tensor, Tensor], Tensor]


def pflow(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    from pflow.flows import build_flow

    architecture, _, option = variant.partition(", ")
    shape = (2,) if kind == "vector" else (1, 128, 128)
    settings = {} if kind == "vector" else {"memory": option}
    if kind == "image" and architecture == "coupling":
        settings |= {"levels": 1, "inner_kernel": 3}
    if option == "compiled":
        settings |= {"compile": True}
    flow = build_flow(architecture, shape, shape, depth=DEPTH[kind], hidden=hidden, **settings)
    return flow, flow.log_prob_pairs if architecture == "chint" else flow.log_prob


def normal(z: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)


def network(kind: str, hidden: int) -> Callable[[int, int], nn.Module]:
    """Two hidden layers, as pflow's conditioners have."""

    def build(inputs: int, outputs: int) -> nn.Module:
        if kind == "vector":
            return nn.Sequential(
                nn.Linear(inputs, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, outputs),
            )
        layers = [
            nn.Conv2d(inputs, hidden, 3, padding=1),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.Conv2d(hidden, outputs, 3, padding=1),
        ]
        return nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])

    return build


def freia(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    shape = (2,) if kind == "vector" else (4, 64, 64)
    flow = ff.SequenceINN(*shape)
    for _ in range(DEPTH[kind]):
        flow.append(
            fm.AllInOneBlock, cond=0, cond_shape=shape, subnet_constructor=network(kind, hidden)
        )

    def log_prob(x: Tensor, y: Tensor) -> Tensor:
        z, log_determinant = flow(x, c=[y])
        return normal(z) + log_determinant

    return flow, log_prob


def zuko(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    from zuko.flows import RealNVP

    flow = RealNVP(
        2, context=2, transforms=DEPTH[kind], hidden_features=(hidden, hidden), activation=nn.SiLU
    )
    return flow, lambda x, y: flow(y).log_prob(x)


def nflows(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    from nflows import distributions, flows, transforms
    from nflows.nn.nets import ConvResidualNet, ResidualNet

    channels, shape = (2, [2]) if kind == "vector" else (4, [4, 64, 64])

    def conditioner(inputs: int, outputs: int) -> nn.Module:
        if kind == "vector":
            return ResidualNet(
                inputs, outputs, hidden_features=hidden, context_features=2, num_blocks=1
            )
        return ConvResidualNet(
            inputs, outputs, hidden_channels=hidden, context_channels=4, num_blocks=1
        )

    steps = []
    for block in range(DEPTH[kind]):
        mask = [(channel + block) % 2 for channel in range(channels)]
        steps.append(transforms.AffineCouplingTransform(mask, conditioner))
    flow = flows.Flow(transforms.CompositeTransform(steps), distributions.StandardNormal(shape))
    return flow, lambda x, y: flow.log_prob(x, context=y)


def normflows(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    import normflows as nf

    steps = []
    for _ in range(DEPTH[kind]):
        steps += [
            nf.flows.MaskedAffineAutoregressive(2, hidden, context_features=2, num_blocks=1),
            nf.flows.LULinearPermute(2),
        ]
    flow = nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(2), steps)
    return flow, flow.log_prob


def bayesflow(kind: str, hidden: int, variant: str) -> tuple[nn.Module, LogProb]:
    """Its blocks couple both halves, so that 4 of them are 8 couplings."""
    import bayesflow as bf

    torch.set_grad_enabled(True)
    flow = bf.networks.CouplingFlow(
        depth=DEPTH[kind] // 2, subnet_kwargs={"widths": (hidden, hidden)}
    )
    flow.build((None, 2), (None, 2))
    return flow, lambda x, y: flow.log_prob(x, conditions=y)


LIBRARIES = {
    "pflow": pflow,
    "FrEIA": freia,
    "zuko": zuko,
    "nflows": nflows,
    "normflows": normflows,
    "BayesFlow": bayesflow,
}


def matched(
    kind: str, library: str, variant: str, parameters: int
) -> tuple[int, nn.Module, LogProb]:
    """The hidden width whose number of parameters is nearest to `parameters` (0, or pflow's own
    coupling: 64).
    """
    if not parameters or library == "pflow":
        return HIDDEN, *LIBRARIES[library](kind, HIDDEN, variant)
    low, high = 8, 256
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high)
            if count(LIBRARIES[library](kind, middle, variant)[0]) <= parameters
            else (low, middle)
        )
    hidden = min(
        (low, high),
        key=lambda width: abs(count(LIBRARIES[library](kind, width, variant)[0]) - parameters),
    )
    return hidden, *LIBRARIES[library](kind, hidden, variant)


def count(flow: nn.Module) -> int:
    return sum(parameter.numel() for parameter in flow.parameters() if parameter.requires_grad)


def peak_megabytes(step: Callable[[], None]) -> float:
    """What a step allocates at its peak, beyond what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    events = [
        event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return (
        max(
            accumulate(
                event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())
            )
        )
        / 1e6
    )


def main() -> None:
    kind, name, parameters = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    library, _, variant = name.partition(" ")
    hidden, flow, log_prob = matched(kind, library, variant, parameters)
    shape = (
        (64, 2)
        if kind == "vector"
        else ((4, 1, 128, 128) if library == "pflow" else (4, 4, 64, 64))
    )
    x, y = torch.randn(shape), torch.randn(shape)
    if library == "pflow":
        flow.initialise(x, y)
    adam = torch.optim.Adam(
        [parameter for parameter in flow.parameters() if parameter.requires_grad],
        lr=1e-4,
        fused=True,
    )

    def step() -> None:
        loss = -log_prob(x, y).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    for _ in range(3):
        step()
    answer(
        {"parameters": count(flow), "hidden": hidden, "memory_mb": round(peak_megabytes(step), 3)}
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            began = time.process_time()
            step()
            times.append(time.process_time() - began)
        answer({"milliseconds": 1e3 * median(times)})


def answer(facts: dict[str, float]) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
