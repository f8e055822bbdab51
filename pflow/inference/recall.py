"""Evaluations that a store recalls are asked again now and then.

The fingerprint of a store covers settings, data and code, not what F reads while it runs (a file
that it opens, a package, a library). One recalled evaluation in a hundred, and at least one a run,
is evaluated again; another answer stops the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pflow.errors import PflowError

__all__ = ["RecallCheck"]

ONE_IN = 100
COMPARED = ("prediction", "log_likelihood", "log_prior", "score")
# An answer in float32 differs from another by less than this part of the largest entry of the
# point, and of the largest entry of all points, where terms cancel.
OF_POINT, OF_ALL = 1e-3, 1e-5
ENOUGH = 256


@dataclass
class RecallCheck:
    """The comparison of recalled evaluations with new answers.

    Arguments:
        way_out: the command that deletes what was made with the old answers.

    Attributes:
        chosen_points: chosen by this process so far.
    """

    way_out: str = "delete the store and the results made with it"
    chosen_points: int = 0

    def choose(self, points: np.ndarray) -> list[int]:
        """Which of the recalled `points`, (batch, *model), to evaluate again: the same ones in
        every run, and the first one where none was chosen yet.
        """
        chosen = [k for k, point in enumerate(points) if _number(point) % ONE_IN == 0]
        if not (self.chosen_points or chosen):
            chosen = [0]
        self.chosen_points += len(chosen)
        return chosen

    def compare(
        self,
        stored: Mapping[str, np.ndarray],
        answers: Mapping[str, np.ndarray],
        samples: Mapping[str, np.ndarray],
    ) -> None:
        """Compare what was stored of some points with new answers.

        Arguments:
            stored: fields of an evaluation, (batch, ...).
            answers: the same fields, of the operator as it is now.
            samples: fields of many points, whose largest entries tell the size of rounding.

        Raises:
            PflowError: they differ by more than the rounding of a float32.
        """
        for name in COMPARED:
            old, new = (_rows(values[name]) for values in (stored, answers))
            room = OF_POINT * np.abs(old).max(1) + OF_ALL * _largest(samples[name][:ENOUGH])
            same = (np.abs(new - old) <= room[:, None]) | ((new == old) | ~np.isfinite(old + new))
            same &= np.isfinite(old) == np.isfinite(new)
            if not same.all():
                row, entry = np.argwhere(~same)[0]
                raise PflowError(
                    f"an evaluation that the store recalled must be what the operator answers now:"
                    f" the {name.replace('_', ' ')} of one point was {old[row, entry]:.6g} and is"
                    f" {new[row, entry]:.6g}. F depends on something that pflow does not see (a"
                    " file that it opens, an installed package, chance): undo that change, or"
                    f" {self.way_out}"
                )


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape)).max())


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float64)


def _number(point: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(point.tobytes(), digest_size=8).digest(), "big")
