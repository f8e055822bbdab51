"""Settings of the data: pairs to learn from, simulated or your own; observations, simulated or
measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pflow.config.decoding import setting
from pflow.errors import PflowError
from pflow.storage.formats import header

__all__ = [
    "HighFidelityPairsSettings",
    "ObservationSettings",
    "PairsSettings",
    "SimulateSettings",
    "expand_observations",
]


@dataclass(frozen=True)
class SimulateSettings:
    """Low-fidelity pairs (x, y): x from the prior, y = F_low(x) + noise."""

    train: int = setting("Training pairs.", 5000, minimum=2)
    validation: int = setting("Pairs for the validation loss and early stopping.", 1000, minimum=2)
    test: int = setting("Held-out pairs for calibration checks and pictures.", 1000, minimum=1)
    high_fidelity: int = setting(
        "Pairs made with the expensive operator, for pictures only (0: none).", 0, minimum=0
    )
    shard_size: int = setting("Pairs in one shard; one shard is one job.", 10000, minimum=1)
    seed: int = setting("Seed of all pairs.", 0, minimum=0)


@dataclass(frozen=True)
class PairsSettings:
    """Pairs (x, y) that exist already, such as old surveys: npz, Zarr, NetCDF or HDF5 with two
    arrays, one row a pair. A path alone is enough.
    """

    shorthand: ClassVar[str] = "file"
    file: Path = setting(
        "The file or Zarr store; the path starts in the folder where you run pflow."
    )
    x: str = setting("Name of the array of models, (pairs, ...).", "x")
    y: str = setting("Name of the array of data, (pairs, ...).", "y")
    train: float = setting("Part of the pairs to train on.", 0.8, above=0, below=1)
    validation: float = setting(
        "Part for the validation loss and early stopping.", 0.1, above=0, below=1
    )
    test: float = setting("Part held out for calibration and pictures.", 0.1, above=0, below=1)
    seed: int = setting("Seed of the split.", 0, minimum=0)
    shards: int = setting(
        "Shards of the training pairs; each is one job, which holds its shard in memory.",
        1,
        minimum=1,
    )
    duplicates: Literal["refuse", "together"] = setting(
        "Pairs with equal x: `refuse` them, because one of them in training tells the answer of one"
        " in the test; `together` puts them into one part of the split.",
        "refuse",
    )

    def shapes(self, where: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """(number of pairs, shape of one x, shape of one y), from the file's header.

        Raises:
            PflowError: the arrays are not there, or do not belong together.
        """
        (_, x), (_, y) = (
            header(self.file, getattr(self, name), f"{where}.{name}") for name in ("x", "y")
        )
        for name, array in ((self.x, x), (self.y, y)):
            if not array.shape:
                raise PflowError(
                    f"{self.file}: `{name}` is a single number and must have one row for each pair:"
                    f" set {where}.x and {where}.y"
                )
        if x.shape[0] != y.shape[0]:
            raise PflowError(
                f"{self.file}: `{self.x}` has {x.shape[0]} rows and `{self.y}` has {y.shape[0]}:"
                " each pair needs both, so the first axes must be equal"
            )
        return x.shape[0], x.shape[1:] or (1,), y.shape[1:] or (1,)

    def mistakes(self, where: str) -> Iterator[str]:
        """Mistakes in the split, given the number of pairs."""
        rows = self.shapes(where)[0]
        total = self.train + self.validation + self.test
        if total > 1 + 1e-9:
            yield f"`{where}.train` + `validation` + `test` (={total:g}) must be at most 1"
        for name, least in (("train", 2), ("validation", 2), ("test", 50)):
            if (count := int(rows * getattr(self, name) + 1e-9)) < least:
                yield (
                    f"`{where}.{name}` (={getattr(self, name):g}) gives {count} of the {rows} pairs"
                    f" of {self.file} and must give at least {least}: raise it, or bring more pairs"
                )


@dataclass(frozen=True)
class HighFidelityPairsSettings(PairsSettings):
    """Pairs (x, y) of the expensive physics that exist already, without an operator: npz, Zarr,
    NetCDF or HDF5 as for `pairs`. A flow with `pairs: high_fidelity` learns from them.
    """

    train: float = setting("Part of the pairs to train on.", 0.6, above=0, below=1)
    validation: float = setting("Part for early stopping.", 0.15, above=0, below=1)
    test: float = setting(
        "Part held out for calibration, 50 pairs or more.", 0.25, above=0, below=1
    )


@dataclass(frozen=True)
class ObservationSettings:
    """One observation y_obs: simulated with the high-fidelity operator, y = F(x_true) + noise, or
    measured, from a file. A path alone is enough.
    """

    shorthand: ClassVar[str] = "file"
    file: str | None = setting(
        "Measured data: npz, npy, Zarr, NetCDF or HDF5 with one array of the shape of y. With *, ?"
        " or [...]: each matching file is one observation, NAME-FILE.",
        None,
    )
    variable: str = setting("Name of the array in `file`, where it has several.", "y")
    x_true: list[float] | None = setting(
        "The true model of a simulated observation, flattened; absent: a draw from the prior.", None
    )
    scale: float = setting(
        "Multiplies a true model drawn from the prior; above 1 it lies outside the training data.",
        1.0,
        above=0,
    )
    seed: int = setting("Seed of the noise (and of x_true when it is drawn).", 0, minimum=0)


def expand_observations(
    observations: dict[str, ObservationSettings], where: str, *, data_made: bool = False
) -> dict[str, ObservationSettings]:
    """Each glob as one observation a file; missing files and unreadable ones are refused.

    Arguments:
        observations: by name.
        where: their place in the configuration, for messages.
        data_made: whether a file may still have to be made; the stage that reads it checks it.

    Raises:
        PflowError: one line for each mistake.
    """
    expanded: dict[str, ObservationSettings] = {}
    mistakes = []
    for name, observation in observations.items():
        place = f"{where}.{name}"
        if observation.file is None or not _is_glob(observation.file):
            matches = {name: observation}
        else:
            matches = {
                f"{name}-{_label(path, observation.file)}": replace(
                    observation, file=path.as_posix()
                )
                for path in _glob(observation.file)
            }
            if not matches:
                mistakes.append(
                    f"`{place}.file` (='{observation.file}') matches no file in {Path.cwd()}:"
                    " correct it, or put the files there"
                )
            elif len(matches) < len(_glob(observation.file)) or set(matches) & (
                set(expanded) | (set(observations) - {name})
            ):
                mistakes.append(
                    f"`{place}.file` (='{observation.file}') gives two observations the same name:"
                    " rename the files, or list them one by one"
                )
        for label, match in matches.items():
            try:
                _check(match, place, data_made)
            except PflowError as error:
                mistakes.append(str(error))
            expanded[label] = match
    if mistakes:
        raise PflowError("\n".join(mistakes))
    return expanded


def _check(observation: ObservationSettings, place: str, data_made: bool) -> None:
    if observation.file is None:
        return
    plain = ObservationSettings()
    for key in ("x_true", "scale", "seed"):
        if getattr(observation, key) != getattr(plain, key):
            raise PflowError(
                f"`{place}.{key}` belongs to simulated observations, and `{place}.file` says that"
                " this one is measured: remove one of the two"
            )
    if not data_made or Path(observation.file).exists():
        header(Path(observation.file), observation.variable, f"{place}.variable")


def _is_glob(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _glob(pattern: str) -> list[Path]:
    """Matching files, in order; of a Zarr store the store."""
    anchor = Path(pattern).anchor
    return sorted(Path(anchor).glob(str(Path(pattern).relative_to(anchor))))


def _label(path: Path, pattern: str) -> str:
    """The part of the path that matches the pattern, without its suffix, restricted to characters
    that a folder's name may have.
    """
    fixed = next(i for i, part in enumerate(Path(pattern).parts) if _is_glob(part))
    return re.sub(r"[^\w-]+", "_", "-".join(path.with_suffix("").parts[fixed:]))
