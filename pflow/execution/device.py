"""The torch device of a job, and its number of threads."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

import torch

from pflow.errors import PassingError

__all__ = ["describe_device", "peak_memory_mb", "select_device"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def select_device(name: str, threads: int = 1) -> torch.device:
    """The torch device for the setting `device`, with the rule's number of threads set.

    Raises:
        PassingError: `cuda` is set and no GPU is visible.
    """
    torch.set_num_threads(threads)
    _keep_freed_memory()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise PassingError(
            f"`device` is cuda and PyTorch {torch.__version__} sees no GPU (CUDA_VISIBLE_DEVICES is"
            f" {visible}): run on a node with a GPU and a CUDA build of torch, or set `device` to"
            " auto or cpu"
        )
    number = int(os.environ.get("LOCAL_RANK", 0))  # torchrun numbers the processes of a machine
    if name == "cuda" and number >= torch.cuda.device_count():
        raise PassingError(
            f"`pretrain.devices` must be at most the GPUs of the node ({torch.cuda.device_count()}"
            f" visible), and process {number} has none: ask for more GPUs or set fewer devices"
        )
    return torch.device(name, number) if name == "cuda" else torch.device(name)


def _keep_freed_memory() -> None:
    """Let glibc reuse up to 1 GB of freed memory in the next step. By default it returns it to the
    system and requests it again page by page, which costs 5 % of the training of a flow for 64 x 64
    images.
    """
    if sys.platform == "linux" and (
        mallopt := getattr(ctypes.CDLL(None), "mallopt", None)
    ):  # other C libraries have none
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def peak_memory_mb(device: torch.device) -> int:
    """Peak memory of this process: of the GPU if it uses one, otherwise of the machine."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def describe_device(device: torch.device) -> str:
    """A readable name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
