"""Checks of images cut from a user's file: whether the file has as many as an experiment draws."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pflow.config.experiment import ExperimentSettings
from pflow.errors import PflowError
from pflow.storage.image_patches import ImagePatches, Split

__all__ = ["mistakes_of_images"]

Part = tuple[Split, tuple[int, int], int]  # of a file, its rows, and how many images are enough


def mistakes_of_images(where: str, experiment: ExperimentSettings) -> list[str]:
    """Settings of `problem.images` that its jobs would refuse one after the other, in words.

    A file that is not there is left to Snakemake, since another rule may make it. One process
    counts a file once, until it is changed.
    """
    problem: Any = experiment.problem
    images = getattr(problem, "images", None)
    if images is None or not Path(images).exists():
        return []
    place = f"{where}.problem"
    unknown = [
        f"`{place}.{name}` (={rows}) must say the depths of the images in samples, as [first, one"
        f" after the last]: the file in `{place}.images` needs it"
        for name in ("training_rows", "target_rows")
        if (rows := getattr(problem, name)) is None or len(rows) != 2
    ]
    if unknown:
        return unknown
    asked = _wanted(where, experiment)
    try:
        counts = _counts(
            (images, problem.array, problem.height, problem.width, problem.stride),
            tuple((split, tuple(getattr(problem, rows)), n) for _, n, split, rows in asked),
        )
    except PflowError as error:
        return [str(error).replace("`problem.", f"`{place}.")]
    return [
        f"`{key}` (={wanted}) draws {wanted} different {split} images in one job, and"
        f" {images} has {found} of {problem.height} x {problem.width} at `{place}.{rows}`"
        f" (={getattr(problem, rows)}): lower `{place}.stride` (={problem.stride}), widen the"
        " rows, or ask for fewer"
        for (key, wanted, split, rows), found in zip(asked, counts, strict=True)
        if found < wanted
    ]


def _counts(source: tuple[Any, ...], parts: tuple[Part, ...]) -> list[int]:
    """How many images each part has, as `ImagePatches.count` counts them.

    Arguments:
        source: arguments of `ImagePatches`, the file first.
        parts: of the file.
    """
    file = Path(source[0])
    if file.is_dir():  # A Zarr store: its own time does not tell of edits inside.
        return _counted(source, parts)
    status = file.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _remembered(source, parts, state)


@lru_cache(maxsize=64)
def _remembered(
    source: tuple[Any, ...], parts: tuple[Part, ...], state: tuple[int, ...]
) -> list[int]:
    """`_counted`, once for each state of the file."""
    return _counted(source, parts)


def _counted(source: tuple[Any, ...], parts: tuple[Part, ...]) -> list[int]:
    patches = ImagePatches(*source)
    return [patches.count(*part) for part in parts]


def _wanted(where: str, experiment: ExperimentSettings) -> list[tuple[str, int, Split, str]]:
    """(setting, number of images that one job draws, part of the file, setting of its rows)."""
    simulate, names = experiment.simulate, list(experiment.observations.items())
    counts: list[tuple[str, int, Split]] = [
        ("train", simulate.train, "train"),
        ("validation", simulate.validation, "validation"),
        ("test", simulate.test, "test"),
        ("high_fidelity", simulate.high_fidelity, "test"),
    ]
    simulated = [
        f"{where}.observations.{name}"
        for name, observation in names
        if observation.file is None and observation.x_true is None
    ]
    return [
        *(
            (f"{where}.simulate.{name}", min(count, simulate.shard_size), split, "training_rows")
            for name, count, split in counts
            if experiment.pairs is None and count
        ),
        *((key, 1, "test", "target_rows") for key in simulated[:1]),
    ]
