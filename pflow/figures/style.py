"""The look of all figures, and how they are written to disk.

A figure is drawn for a page column of about 18 cm and stays readable at half that size. It uses the
font that ships with matplotlib, so that it looks the same on every machine, and its file is the
same, byte for byte, for the same data.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pflow.figures.palette import INK

__all__ = ["new_figure", "save", "style"]

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # labels are the user's, and "$5_{" is no mathematics
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.minor.visible": False,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "pflow",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the look inside a `with` block; matplotlib's settings are as before afterwards."""
    with rc_context(SETTINGS):
        yield


class ShownFigure(Figure):
    """A figure that a notebook shows, also without pyplot, which would register it for that."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        with style():
            self.savefig(png, format="png", metadata={"Software": None})
        return png.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches whose parts make room for each other."""
    spaces = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.05)
    return ShownFigure(figsize=(width, height), layout=spaces)


def save(figure: Figure, path: Path, *, svg: bool = False) -> list[Path]:
    """Write `figure` to `path` (.png, 150 dots an inch) and, if asked, as .svg beside it.

    The files carry no date, no program name and no random identifiers. Each is written under a
    temporary name and then renamed. Returns the paths written.
    """
    path = Path(path)
    written = []
    for suffix, metadata in [(".png", {"Software": None})] + [
        (".svg", {"Date": None, "Creator": None})
    ] * svg:
        target = path.with_suffix(suffix)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with style():  # ticks are made while drawing, with the settings at that time
                figure.savefig(unfinished, format=suffix[1:], metadata=metadata)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        written.append(target)
    return written
