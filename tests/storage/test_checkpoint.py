"""Checkpoints return exactly what was saved, to its owner alone."""

from __future__ import annotations

import torch

from pflow.storage.checkpoint import Checkpoint

STATE = {
    "tensor": torch.arange(6, dtype=torch.float64).reshape(2, 3),
    "nested": {
        0: {"moment": torch.ones(2)},
        "name": "text",
        "none": None,
        "list": [1, 2.5, float("inf"), True],
    },
    "generator": torch.Generator().manual_seed(3).get_state(),
    "empty": torch.empty(0, dtype=torch.long),
}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_state_returns_bit_for_bit(tmp_path):
    checkpoint = Checkpoint(tmp_path / "deep" / "state.safetensors", "me")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    assert same(checkpoint.load(), STATE)


def test_another_identity_does_not_resume(tmp_path):
    Checkpoint(tmp_path / "state.safetensors", "old settings").save(STATE)
    assert Checkpoint(tmp_path / "state.safetensors", "new settings").load() is None


def test_a_damaged_file_is_no_state(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "me")
    checkpoint.save(STATE)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    assert checkpoint.load() is None


def test_remove_leaves_no_empty_folders(tmp_path):
    checkpoint = Checkpoint(tmp_path / ".checkpoints" / "run" / "state.safetensors", "me")
    checkpoint.save(STATE)
    checkpoint.remove()
    checkpoint.remove()
    assert not (tmp_path / ".checkpoints").exists()
