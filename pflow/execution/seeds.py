"""Every random number comes from a seed in the configuration, through a generator of its own for
each purpose.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator_for"]


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose ("pairs", "train", 3); other purposes, shards and seeds have
    independent streams.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)
