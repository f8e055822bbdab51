"""Whether a training on pairs has overfitted, from its validation loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["ValidationCourse", "validation_course"]

# Nats per pair, and a part of what training gained: smaller rises are noise of the last steps.
RISE, PART = 0.05, 0.02


class ValidationCourse(NamedTuple):
    """How the validation loss went.

    Attributes:
        best_epoch: epochs that were complete when it was lowest.
        epochs: epochs that were complete at the end.
        rise: validation loss at the end over the lowest one, nats per pair.
        overfitted: whether that is more than noise.
    """

    best_epoch: int
    epochs: int
    rise: float
    overfitted: bool

    @property
    def advice(self) -> str:
        """What to do about it; empty where nothing is to be done."""
        if not self.overfitted:
            return ""
        return (
            f"overfitted: the validation loss was lowest after epoch {self.best_epoch} and"
            f" {self.rise:.2g} nats a pair higher after epoch {self.epochs}; the weights are those"
            f" of epoch {self.best_epoch}. More training pairs, a smaller flow or a lower"
            " learning_rate would bring it lower"
        )


def validation_course(rows: Sequence[Mapping[str, float]]) -> ValidationCourse:
    """The course of a history, whose rows with a `validation_loss` also have their `epoch`.

    Raises:
        ValueError: no row has a validation loss.

    >>> losses = [3.0, 1.0, 0.8, 1.1, 1.6]
    >>> rows = [{"epoch": k, "validation_loss": loss} for k, loss in enumerate(losses)]
    >>> validation_course(rows)[:2], validation_course(rows).overfitted
    ((2, 4), True)
    >>> validation_course(rows[:3]).overfitted
    False
    """
    measured = [row for row in rows if "validation_loss" in row]
    if not measured:
        raise ValueError("no row has a `validation_loss`: the history is not of a pretraining")
    first, last = measured[0], measured[-1]
    best = min(
        measured,
        key=lambda row: (
            row["validation_loss"] if math.isfinite(row["validation_loss"]) else math.inf
        ),
    )
    rise = last["validation_loss"] - best["validation_loss"]
    gained = first["validation_loss"] - best["validation_loss"]
    return ValidationCourse(
        int(best["epoch"]), int(last["epoch"]), rise, rise > max(RISE, PART * gained)
    )
