"""JSON and CSV, written atomically."""

from __future__ import annotations

import csv
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.origins import require_unchanged

__all__ = ["read_csv", "read_json", "write_csv", "write_json"]


def write_json(path: str | Path, data: Any) -> None:
    """Indented JSON; NaN and infinity are refused, because JSON has none."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path, *needed: str) -> Any:
    """The content of a JSON file, names and values.

    Raises:
        PflowError: the file is missing, not JSON, lacks one of the names `needed`, or was changed
            after its job wrote it.
    """
    require_unchanged(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no names with values")
        _require(content, needed)
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise PflowError(
            f"{path} cannot be read as JSON ({error}): delete it and run snakemake again"
        ) from error


def write_csv(
    path: str | Path, rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]
) -> None:
    """A table; absent values are empty cells, floats keep all their digits."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path, *needed: str) -> dict[str, np.ndarray]:
    """Columns of a table of numbers; empty cells are NaN.

    Raises:
        PflowError: the file is missing, no table of numbers, lacks a column `needed`, or was
            changed after its job wrote it.
    """
    require_unchanged(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *body = csv.reader(file)
        _require(header, needed)
        return {
            name: np.array([float(row[i]) if row[i] else np.nan for row in body])
            for i, name in enumerate(header)
        }
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise PflowError(
            f"{path} cannot be read as a table of numbers ({error}): delete it and run snakemake"
            " again"
        ) from error


def _require(names: Container[str], needed: tuple[str, ...]) -> None:
    for name in needed:
        if name not in names:
            raise ValueError(f"it has no `{name}`")
