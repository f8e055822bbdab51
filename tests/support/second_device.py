"""A second device on a computer that has none: CPU tensors that say they are on `meta`.

Values are real, so whole stages run, and what a GPU refuses raises here too:

- operations on tensors of both devices; 0-dimensional CPU tensors and CPU indices are allowed, as
  there;
- a generator of the CPU that draws on the device, and the reverse;
- `.numpy()` of a tensor on the device;
- `.pin_memory()` of a tensor on the device; on the CPU it is a copy.

Where everything is on the CPU nothing is changed. Kernels and streams are not stood in for. Nor are
compiled programs, whose compiler sees neither these tensors nor the mode: `tests/devices/
test_compiled.py` traces them on `meta` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["DEVICE", "DeviceMismatchError", "OnDevice", "second_device"]

DEVICE = torch.device("meta")
COPIES = ("aten::_to_copy", "aten::copy_", "aten::_copy_from")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class DeviceMismatchError(RuntimeError):
    """What a GPU would refuse."""


class OnDevice(torch.Tensor):
    """A tensor on the second device; its values lie in `held`, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        """A GPU's tensor has it too."""
        return self.held.tolist()

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None) -> torch.Tensor:
        """On this device, unless another is named."""
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees the operations that make tensors, too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


def _dispatch(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    flat = tree_flatten((args, kwargs))[0]
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    here = any(isinstance(tensor, OnDevice) for tensor in tensors)
    if name not in COPIES:
        _require_one_device(name, args, tensors, here)
    there = asked == DEVICE if asked is not None else here
    if name in ("aten::copy_", "aten::_copy_from"):
        there = isinstance(args[0], OnDevice)
    _require_generator(name, kwargs, there)
    if not here and not there:
        return func(*args, **kwargs)
    wrappers = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnDevice)}
    plain_args, plain_kwargs = tree_map(_held, (args, kwargs))
    if asked == DEVICE:
        plain_kwargs["device"] = torch.device("cpu")
    result = func(*plain_args, **plain_kwargs)
    if there:
        return tree_map(lambda value: _on_device(value, wrappers), result)
    # A copy to the CPU has memory of its own.
    return tree_map(lambda value: value.clone() if id(value) in wrappers else value, result)


def _on_device(value: Any, wrappers: dict[int, OnDevice]) -> Any:
    """A result as it is seen from outside; one that was written in place is the tensor it was."""
    if not isinstance(value, torch.Tensor):
        return value
    return wrappers[id(value)] if id(value) in wrappers else OnDevice(value)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _require_one_device(name: str, args: tuple, tensors: list[torch.Tensor], here: bool) -> None:
    if not here:
        return
    allowed = {id(index) for index in tree_flatten(args[1])[0]} if name in INDEXED else set()
    for tensor in tensors:
        if not isinstance(tensor, OnDevice) and tensor.dim() and id(tensor) not in allowed:
            raise DeviceMismatchError(
                f"{name} got a tensor of {tuple(tensor.shape)} on cpu beside one on {DEVICE}"
            )


def _require_generator(name: str, kwargs: dict[str, Any], there: bool) -> None:
    generator = kwargs.get("generator")
    if there and generator is not None and generator.device.type == "cpu":
        raise DeviceMismatchError(f"{name} draws on {DEVICE} with a generator of the CPU")


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Within it, tensors that are made on `meta`, or moved there, are `OnDevice`."""
    made = torch.tensor

    def from_values(data, *, device=None, **kwargs):
        """torch copies values to a device without an operation that a mode sees."""
        return made(data, **kwargs).to(device) if device is not None else made(data, **kwargs)

    supported = "torch.optim.optimizer._get_fused_kernels_supported_devices"
    autocast = torch.autocast.__init__

    def pinned(tensor):
        """Page-locked memory, from which copies to a GPU need not be waited for."""
        if isinstance(tensor, OnDevice):
            raise DeviceMismatchError(f"only memory of the CPU can be pinned, not of {DEVICE}")
        return tensor.clone()

    def on_cpu(self, device_type, *args, **kwargs):
        """autocast knows no `meta`; the values are on the CPU."""
        autocast(self, "cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    with (
        mock.patch(supported, return_value=["cpu", DEVICE.type]),
        mock.patch("torch.tensor", from_values),
        mock.patch.object(torch.Tensor, "pin_memory", pinned),
        mock.patch.object(torch.autocast, "__init__", on_cpu),
        _Mode(),
    ):
        yield DEVICE
