"""Weights as safetensors. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pflow.errors import PflowError
from pflow.storage.atomic import replacing

if TYPE_CHECKING:
    import torch

__all__ = ["read_weights", "write_weights"]


def write_weights(
    path: str | Path, state: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]
) -> None:
    """A state dict as safetensors, with text `metadata` in its header."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
            temporary,
            metadata=dict(metadata),
        )


def read_weights(path: str | Path) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        PflowError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise PflowError(
            f"{path} cannot be read as weights ({error}): delete it and run snakemake again"
        ) from error
