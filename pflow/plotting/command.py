"""`python -m pflow plot`: the figures and the table of one posterior, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pflow.diagnostics.each_parameter import COLUMNS
from pflow.errors import PflowError
from pflow.figures.style import save
from pflow.plotting.chosen import drawn_parameters
from pflow.plotting.posterior_figures import draw_posterior, read_view
from pflow.plotting.table import interval_rows
from pflow.storage.text_files import write_csv

__all__ = ["plot"]

WHERE = "--parameters"


def plot(folder: Path, parameters: Sequence[str] | None, out: Path) -> list[str]:
    """Write each figure as PNG and SVG and the table as CSV into the folder `out`; returns a line
    about each.

    Raises:
        PflowError: no posterior is there, no parameter has such a name, or `out` is a file.
    """
    view = read_view(folder)
    drawn = draw_posterior(view, parameters, WHERE)
    of_field = None if view.grid is None else drawn_parameters(view, parameters, WHERE)
    rows = interval_rows(view, of_field)
    if out.exists() and not out.is_dir():
        raise PflowError(f"`--out` (={out}) must be a folder, and is a file: name another")
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, one in drawn.items():
        written = save(one.figure, out / f"{name}.png", svg=True)
        lines.append(f"{', '.join(map(str, written))}: {one.caption}")
    if rows:
        table = out / "intervals.csv"
        write_csv(table, rows, COLUMNS)
        lines.append(f"{table}: mean, standard deviation and quantiles of each parameter.")
    return lines
