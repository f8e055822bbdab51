"""JSON and CSV, written atomically."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
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


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        PflowError: the file is missing, not JSON, or was changed after its job wrote it.
    """
    require_unchanged(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise PflowError(
            f"{path} cannot be read as JSON ({error}): delete it and run snakemake again"
        ) from error


def write_csv(path: str | Path, rows: list[Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    """A table; absent values are empty cells, floats keep all their digits."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a table of numbers; empty cells are NaN.

    Raises:
        PflowError: the file is missing, no table of numbers, or was changed after its job wrote it.
    """
    require_unchanged(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *body = csv.reader(file)
        return {
            name: np.array([float(row[i]) if row[i] else np.nan for row in body])
            for i, name in enumerate(header)
        }
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise PflowError(
            f"{path} cannot be read as a table of numbers ({error}): delete it and run snakemake"
            " again"
        ) from error
