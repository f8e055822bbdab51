"""Checkpoints: a nested state of tensors and plain numbers as one safetensors file, written atomically.

A checkpoint belongs to the settings, the code and the inputs that made it; under another `identity` it is not resumed. Nothing
is ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pflow.store import replacing

__all__ = ["Checkpoint"]


class Checkpoint:
    """The newest state of one job.

    Arguments:
        path: the file; its folder is made when the first state is saved.
        identity: fingerprint of settings, code and inputs; a file with another one is ignored.
    """

    def __init__(self, path: str | Path, identity: str) -> None:
        self.path, self.identity = Path(path), identity

    def save(self, state: dict[str, Any]) -> None:
        """Replace the previous state."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        tree = _flatten(state, tensors)
        metadata = {"identity": self.identity, "state": json.dumps(tree)}
        with replacing(self.path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none, or it is another's or damaged."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != self.identity:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        except (SafetensorError, OSError):
            return None
        return _restore(json.loads(metadata["state"]), tensors)

    def remove(self) -> None:
        """Forget the state; the job is complete."""
        self.path.unlink(missing_ok=True)
        for folder in (self.path.parent, self.path.parent.parent):
            try:
                folder.rmdir()  # only empty folders go
            except OSError:
                break


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(item, tensors) for item in value]}
    return {"value": value}


def _restore(tree: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "items" in tree:
        return {key: _restore(item, tensors) for key, item in tree["items"]}
    if "list" in tree:
        return [_restore(item, tensors) for item in tree["list"]]
    return tree["value"]
