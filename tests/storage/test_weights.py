"""Weights come back as they were, and damage is said."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.storage.weights import read_weights, write_weights


def test_weights_round_trip_and_damage(tmp_path):
    path = tmp_path / "flow.safetensors"
    write_weights(path, {"a": torch.arange(3.0)}, {"architecture": "{}"})
    tensors, metadata = read_weights(path)
    assert torch.equal(tensors["a"], torch.arange(3.0)) and metadata == {"architecture": "{}"}
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(PflowError, match=r"flow\.safetensors cannot be read as weights"):
        read_weights(path)
