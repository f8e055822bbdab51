"""The check of devices finds what a GPU would refuse, and lets pass what it would not."""

from __future__ import annotations

import pytest
import torch

from pflow.execution.device import select_device
from pflow.execution.parallel import Group
from pflow.flows import build_flow
from pflow.flows.coupling import ConditionalCouplingFlow
from pflow.flows.image_level import Coupling
from tests.support.second_device import DEVICE, DeviceMismatchError, OnDevice, second_device

FLOWS = {
    "vector": {"model_shape": (4,), "data_shape": (3,), "depth": 2, "hidden": 8},
    "image": {"model_shape": (1, 8, 8), "data_shape": (1, 8, 8), "depth": 1, "hidden": 4},
}
COUPLINGS = {"vector": ConditionalCouplingFlow, "image": Coupling}


def pairs(shapes, n=8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(n, *shapes[name], generator=generator).to(DEVICE)
        for name in ("model_shape", "data_shape")
    ]


def loss_and_draws(flow, shapes) -> tuple[torch.Tensor, torch.Tensor]:
    """As in a step of training, and as in sampling."""
    x, y = pairs(shapes)
    flow.initialise(x, y)
    loss = -flow.log_prob(x, y).mean()
    loss.backward()
    with torch.no_grad():
        return loss, flow.sample(y[:1], 5, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", FLOWS)
def test_a_flow_trains_and_samples_on_the_device(kind):
    with second_device() as device:
        flow = build_flow("coupling", **FLOWS[kind]).to(device).requires_grad_(True)
        loss, draws = loss_and_draws(flow, FLOWS[kind])
        assert isinstance(loss, OnDevice) and isinstance(draws, OnDevice)
        assert all(isinstance(parameter.grad, OnDevice) for parameter in flow.parameters())
        assert draws.device == DEVICE and draws.cpu().isfinite().all()


@pytest.mark.parametrize("kind", FLOWS)
def test_a_cpu_tensor_made_inside_a_coupling_is_found(kind, monkeypatch):
    right = COUPLINGS[kind]._log_scale_and_shift

    def planted(self, *arguments):
        log_scale, shift = right(self, *arguments)
        return log_scale, shift + torch.zeros(shift.shape)  # no device is named

    monkeypatch.setattr(COUPLINGS[kind], "_log_scale_and_shift", planted)
    with second_device() as device:
        flow = build_flow("coupling", **FLOWS[kind]).to(device)
        with pytest.raises(DeviceMismatchError, match="on cpu beside one on meta"):
            loss_and_draws(flow, FLOWS[kind])


MISTAKES = {
    "a CPU generator": lambda x, g: torch.randn(3, generator=g, device=x.device),
    "a CPU generator in place": lambda x, g: x.normal_(generator=g),
    "arithmetic with a CPU tensor": lambda x, g: x + torch.ones(4),
    "a matrix on the CPU": lambda x, g: x @ torch.ones(4, 4),
    "a mask on the CPU": lambda x, g: torch.where(torch.ones(4, dtype=torch.bool), x, x),
    "concatenation": lambda x, g: torch.cat([x, torch.ones(4)]),
    "an index of gather on the CPU": lambda x, g: x.gather(0, torch.zeros(2, dtype=torch.long)),
    "pinned memory of the device": lambda x, g: x.pin_memory(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_gpu_refuses_is_found(mistake):
    with second_device() as device:
        x = torch.arange(4.0).to(device)
        with pytest.raises(DeviceMismatchError):
            MISTAKES[mistake](x, torch.Generator().manual_seed(0))


def test_numpy_takes_nothing_from_the_device():
    with second_device() as device:
        x = torch.ones(3, device=device)
        with pytest.raises((RuntimeError, TypeError), match="numpy"):
            x.numpy()
        assert x.cpu().numpy().tolist() == [1.0, 1.0, 1.0]


def test_what_a_gpu_allows_passes_with_its_values():
    with second_device() as device:
        x = torch.arange(4.0).to(device)
        assert (x * torch.tensor(2.0)).tolist() == [0.0, 2.0, 4.0, 6.0]
        assert x[torch.tensor([3, 1])].tolist() == [3.0, 1.0]
        assert x[torch.tensor([True, False, False, True])].tolist() == [0.0, 3.0]
        assert torch.zeros_like(x).copy_(torch.ones(4)).tolist() == [1.0] * 4
        assert x.new_tensor([1.0, 2.0]).device == device and float(x.sum()) == 6.0
        copied = x.cpu()
        copied[0] = 9.0
        assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
        y = torch.ones(2)
        assert (y + y).device.type == "cpu"
        pinned = y.pin_memory().to(device, non_blocking=True)
        assert isinstance(pinned, OnDevice) and pinned.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("memory", ["store", "checkpoint", "invert"])
def test_half_precision_is_asked_of_the_device_and_ends_in_float32(memory, monkeypatch):
    asked = []
    with second_device() as device:
        on_cpu = torch.autocast.__init__

        def recorded(self, device_type, *args, **kwargs):
            if kwargs.get("enabled", True):
                asked.append(device_type)
            on_cpu(self, device_type, *args, **kwargs)

        monkeypatch.setattr(torch.autocast, "__init__", recorded)
        settings = {**FLOWS["image"], "precision": "bfloat16", "memory": memory}
        flow = build_flow("coupling", **settings).to(device).requires_grad_(True)
        loss, draws = loss_and_draws(flow, settings)
        monkeypatch.undo()
        assert loss.dtype == draws.dtype == torch.float32
        assert all(parameter.grad.dtype == torch.float32 for parameter in flow.parameters())
    assert asked and set(asked) == {DEVICE.type}


def test_each_process_of_a_node_takes_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("cuda") == select_device("auto") == torch.device("cuda", 1)


def test_a_process_averages_gradients_on_its_device_and_losses_on_the_cpu(monkeypatch):
    """Without `device_ids` the wrapper takes the device on which the weights lie."""
    shared, wrapped = [], []
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_: None)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda value, _: shared.append(value))
    monkeypatch.setattr(
        "torch.nn.parallel.DistributedDataParallel",
        lambda *modules, **options: wrapped.append((modules, options)),
    )
    with second_device() as device:
        flow = build_flow("coupling", **FLOWS["vector"]).to(device)
        group = Group(device)
        group.wrap(flow)
        assert group.mean(3.0) == 1.5 and group.largest(3) == 3  # the other's share is not added
        assert wrapped == [((flow,), {})]
        assert all(isinstance(parameter, OnDevice) for parameter in flow.parameters())
    assert len(shared) == 2 and not any(isinstance(value, OnDevice) for value in shared)


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_processes_talk_by_the_library_of_their_device(device, backend, monkeypatch):
    """Flags and losses are shared on the CPU, gradients on the device."""
    asked = []
    monkeypatch.setattr("torch.distributed.init_process_group", asked.append)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    Group(torch.device(device))
    assert asked == [backend]
