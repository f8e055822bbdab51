"""Names of the axes of stored arrays, so that xarray opens every store."""

from __future__ import annotations

__all__ = ["axis_base", "dimension_names"]

IMAGE = (
    "channel",
    "row",
    "column",
)  # of an image: rows from the top (depth of a section), columns from the left (lateral distance)


def dimension_names(variable: str, ndim: int, first: str | None = None) -> list[str]:
    """The names of the axes of one array; x_true shares those of x.

    Arguments:
        variable: name of the array.
        ndim: number of its axes.
        first: name of the first axis, such as "sample"; None where that is like the others.

    Example:
        >>> dimension_names("x", 2, first="sample"), dimension_names("x_true", 3)
        (['sample', 'x_dim'], ['x_channel', 'x_row', 'x_column'])
    """
    if first is not None:
        return [first, *dimension_names(variable, ndim - 1)] if ndim else []
    base = axis_base(variable)
    if ndim == 3:
        return [f"{base}_{axis}" for axis in IMAGE]
    return [f"{base}_dim"] if ndim == 1 else [f"{base}_dim_{i}" for i in range(ndim)]


def axis_base(variable: str) -> str:
    """The variable whose axes and unit it shares."""
    return variable.split("_")[0]
