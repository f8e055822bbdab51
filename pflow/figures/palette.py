"""One colour per method, the same in every figure and in the report.

The colours are those of Okabe and Ito (Color Universal Design, https://jfly.uni-koeln.de/color/),
which stay apart for all common kinds of colour blindness. Their yellow is left out: it cannot be
read as a line on white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "EXACT",
    "INK",
    "MUTED",
    "line_style",
    "method_colour",
    "method_label",
    "method_line_style",
]

INK = "#222222"  # text, the true model, the observation
MUTED = "#7a7a7a"  # parts that belong to no method: prior samples, simulated data
EXACT = "#000000"  # the reference, whatever its name

KNOWN = {
    "amortized": "#56B4E9",
    "preconditioned": "#0072B2",
    "scratch": "#D55E00",
    "seed_paper": "#CC79A7",
    "seed_paper_scratch": "#E69F00",
    "exact": EXACT,
    "reference": EXACT,
}
OTHERS = ("#009E73", "#999999", "#56B4E9", "#D55E00", "#CC79A7", "#0072B2", "#E69F00")
LINE_STYLES = ("-", "--", ":", "-.")


def method_colour(name: str, names: Sequence[str]) -> str:
    """Colour of method `name` among all the methods `names` of an experiment, as "#rrggbb".

    Methods of the default configuration have a colour of their own everywhere. Any other method
    takes the next colour that none of the known methods in `names` uses, in the order of `names`;
    so pass the same `names`, all methods of the experiment, to every figure. Once the colours are
    used up they repeat with another `method_line_style`.

    Raises: ValueError if `name` is not in `names` (and not a reference).
    """
    return assign(name, names)[0]


def method_line_style(name: str, names: Sequence[str]) -> str:
    """Line style that distinguishes methods of the same colour; "-" while the colours suffice."""
    return assign(name, names)[1]


def line_style(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and line style of a method, as matplotlib takes them."""
    return {"color": method_colour(name, names), "ls": method_line_style(name, names)}


def method_label(name: str, labels: Mapping[str, str | None] | None = None) -> str:
    """The method's label where it has one, else its name with spaces for underscores, easily found
    in the settings.
    """
    return (labels or {}).get(name) or name.replace("_", " ")


def assign(name: str, names: Sequence[str]) -> tuple[str, str]:
    if name in KNOWN:
        return KNOWN[name], LINE_STYLES[0]
    unknown = [other for other in dict.fromkeys(names) if other not in KNOWN]
    if name not in unknown:
        raise ValueError(
            f"method '{name}' must be one of the methods that the figure was given:"
            f" {', '.join(names)}"
        )
    taken = {KNOWN[other] for other in names if other in KNOWN}
    free = [colour for colour in OTHERS if colour not in taken]
    turn, place = divmod(unknown.index(name), len(free))
    return free[place], LINE_STYLES[turn % len(LINE_STYLES)]
