"""`compile: true` on a GPU: what a step compiles is traced on the device `meta`, which computes
nothing and refuses, as a GPU does, an operation on tensors of two devices.

The stand-in of `tests/support/second_device.py` cannot take part: its tensors are unknown to the
compiler. What is compiled here is the graph of density and gradient that a GPU would be given; the
programs made from it are not, which needs the GPU.
"""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.flows.coupling import ConditionalCouplingFlow
from tests.support.type_checks import unchecked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of the compiler's own making
]
META = torch.device("meta")


@pytest.fixture
def traced(monkeypatch):
    """Compiled modules are traced, and run operation by operation."""
    asked, compiled = [], torch.nn.Module.compile

    def trace(module, *, fullgraph, options):
        asked.append(options)
        compiled(module, fullgraph=fullgraph, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    torch._dynamo.reset()
    with unchecked():  # the compiler cannot follow the check of shapes
        yield asked
    torch._dynamo.reset()


def step() -> tuple[torch.Tensor, torch.nn.Module]:
    """Loss and gradients, as in a step of training."""
    flow = build_flow("coupling", (4,), (3,), depth=2, hidden=8, compile=True).to(META)
    x, y = torch.randn(6, 4, device=META), torch.randn(6, 3, device=META)
    loss = -flow.log_prob_pairs(x, y).mean()
    loss.backward()
    return loss, flow


def test_the_compiled_step_lies_on_the_device(traced):
    loss, flow = step()
    assert traced and loss.device == META
    assert all(parameter.grad.device == META for parameter in flow.parameters())


def test_a_cpu_tensor_made_inside_the_compiled_step_is_found(traced, monkeypatch):
    right = ConditionalCouplingFlow._log_scale_and_shift

    def planted(self, *arguments):
        log_scale, shift = right(self, *arguments)
        return log_scale, shift + torch.zeros(shift.shape)  # no device is named

    monkeypatch.setattr(ConditionalCouplingFlow, "_log_scale_and_shift", planted)
    with pytest.raises(torch._dynamo.exc.TorchRuntimeError, match="at least two devices"):
        step()
