"""The folder with the state of one interrupted job; part of `pflow.storage.layout`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FINISHED", "CheckpointFolder"]

FINISHED = "finished"


@dataclass(frozen=True)
class CheckpointFolder:
    """The state of an interrupted training; not an output of a rule."""

    folder: Path

    @property
    def state(self) -> Path:
        """Weights and optimiser."""
        return self.folder / "state.safetensors"

    @property
    def evaluations(self) -> Path:
        """Store of the evaluations of F of a fine-tuning; kept after its end."""
        return self.folder / "evaluations.zarr"

    @property
    def choice(self) -> Path:
        """The choice of `objective: auto`, for all seeds."""
        return self.folder.with_name("auto.json")

    @property
    def finished(self) -> Path:
        """A result kept until the controller has recorded the end of its job."""
        return self.folder / FINISHED

    @property
    def message(self) -> Path:
        """The error of one of several processes."""
        return self.folder / "message"

    def of_method(self, method: str) -> CheckpointFolder:
        """The same observation and seed of another method."""
        return CheckpointFolder(self.folder.parents[1] / method / self.folder.name)
