"""Checkpoints: a nested state of tensors and plain numbers as one safetensors file, written
atomically.

A checkpoint belongs to the settings, the code and the inputs that made it; under another `identity`
it is not resumed, and neither is a file whose tensors are not those that were saved. Nothing is
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pflow.storage.store import replacing

__all__ = ["Checkpoint"]


SECONDS_BETWEEN = 20.0


class Checkpoint:
    """The newest state of one job, and the one before it.

    Arguments:
        path: the file; its folder is made when the first state is saved. The state before it has
            `.previous` appended.
        identity: fingerprint of settings, code and inputs; a file with another one is ignored.

    Attributes:
        interval: seconds between two states (environment variable PFLOW_CHECKPOINT_SECONDS, default
            20).
    """

    def __init__(self, path: str | Path, identity: str) -> None:
        self.path, self.identity = Path(path), identity
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        self.interval = float(os.environ.get("PFLOW_CHECKPOINT_SECONDS", SECONDS_BETWEEN))

    def save(self, state: dict[str, Any]) -> None:
        """Add a state; a kill at any moment leaves a whole one."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        tree = json.dumps(_flatten(state, tensors)).encode()
        tensors["tree"] = torch.frombuffer(
            bytearray(tree), dtype=torch.uint8
        )  # the header has a largest size, tensors have none
        with replacing(self.path) as temporary:
            save_file(
                tensors, temporary, metadata={"identity": self.identity, "hash": _hash(tensors)}
            )
            if self.path.is_file():
                os.replace(self.path, self.previous)

    def load(self) -> dict[str, Any] | None:
        """The newest whole state of this identity, or None."""
        states = (self._read(path) for path in (self.path, self.previous))
        return next((state for state in states if state is not None), None)

    def _read(self, path: Path) -> dict[str, Any] | None:
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("identity") != self.identity:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if _hash(tensors) != about.get("hash"):
                raise ValueError("its tensors are not those that were saved")
            return _restore(json.loads(tensors.pop("tree").numpy().tobytes()), tensors)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            print(f"{path} is damaged and not resumed ({error})", file=sys.stderr)
            return None

    def remove(self) -> None:
        """Forget the states; the job is complete."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)
        for folder in (self.path.parent, self.path.parent.parent):
            try:
                folder.rmdir()  # only empty folders go
            except OSError:
                break


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


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
