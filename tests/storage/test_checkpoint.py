"""Checkpoints return exactly what was saved, to its owner alone."""

from __future__ import annotations

import pytest
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


def cut(content: bytearray) -> bytearray:
    return content[:100]


def flip_a_bit(content: bytearray) -> bytearray:
    content[-1] ^= 1
    return content


def zero_a_tensor(content: bytearray) -> bytearray:
    moment = torch.ones(2).numpy().tobytes()
    assert moment in content
    return content.replace(moment, bytes(len(moment)))


def swap_two_names(content: bytearray) -> bytearray:
    return content.replace(b'"t0"', b'"t9"', 1)


@pytest.mark.parametrize("damage", [cut, flip_a_bit, zero_a_tensor, swap_two_names])
def test_a_damaged_file_is_told_and_no_state(tmp_path, capsys, damage):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "me")
    checkpoint.save(STATE)
    checkpoint.path.write_bytes(damage(bytearray(checkpoint.path.read_bytes())))
    assert checkpoint.load() is None
    printed = capsys.readouterr().err
    assert printed.startswith(f"{checkpoint.path} is damaged and not resumed (")
    assert printed.count("\n") == 1


def test_behind_a_damaged_file_the_state_before_it_is_resumed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "me")
    checkpoint.save(STATE)
    checkpoint.save({"later": torch.ones(3)})
    checkpoint.path.write_bytes(flip_a_bit(bytearray(checkpoint.path.read_bytes())))
    assert same(checkpoint.load(), STATE)


def test_remove_leaves_no_empty_folders(tmp_path):
    checkpoint = Checkpoint(tmp_path / ".checkpoints" / "run" / "state.safetensors", "me")
    checkpoint.save(STATE)
    checkpoint.remove()
    checkpoint.remove()
    assert not (tmp_path / ".checkpoints").exists()
