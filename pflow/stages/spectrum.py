"""spectrum: the average spectrum of the training images, from which a stationary Gaussian prior
follows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.config.jobs import SpectrumJobSettings
from pflow.errors import PflowError
from pflow.execution.device import select_device
from pflow.problems.stationary import floored, periodogram
from pflow.storage.store import read_pairs, write_arrays

__all__ = ["spectrum"]


def spectrum(
    settings: SpectrumJobSettings,
    record: dict[str, Any],
    *,
    train_shards: list[Path],
    out: Path,
    threads: int = 1,
) -> None:
    """Write the array `spectrum` (*model), that of the images of all shards together.

    Raises:
        PflowError: the models are no images.
    """
    select_device("cpu", threads)
    total, count = torch.zeros(()), 0
    for shard in train_shards:
        x = torch.from_numpy(read_pairs([shard])[0])
        if x.ndim != 4:
            raise PflowError(
                "a Gaussian prior is for images (channels, height, width), and the models of"
                f" {shard.parent} have the shape {tuple(x.shape[1:])}"
            )
        total, count = total + len(x) * periodogram(x), count + len(x)
    write_arrays(
        out,
        {"spectrum": floored(total / count).numpy()},
        {
            "images": count,
            "settings_hash": record["settings_hash"],
            "code_version": record["code_version"],
        },
    )
