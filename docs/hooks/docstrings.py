"""Docstrings as Markdown: they are written for readers of the code, with the roles of
reStructuredText for formulas.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

import griffe

FORMULA = re.compile(r":math:`([^`]+)`")
DISPLAYED = re.compile(
    r"^( *)\.\. math::((?:.*\n?)(?:\1 +\S.*\n?|[ ]*\n(?=\1 +\S))*)", re.MULTILINE
)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before its sections are read, and the types of settings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = for_markdown(obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Bounds of settings, in `Annotated`, are left out: the page on the configuration has
        them.
        """
        for parameter in func.parameters:
            parameter.annotation = _plain(parameter.annotation)


def _plain(annotation: Any) -> Any:
    if isinstance(annotation, griffe.ExprSubscript) and annotation.left.path.endswith("Annotated"):
        return annotation.slice.elements[0]
    return annotation


def for_markdown(text: str) -> str:
    r"""Formulas between the signs of arithmatex, `\(` and `\[`; the title that griffe knows for
    examples; references, one on each line with a bar before it, as a list.
    """
    text = FORMULA.sub(lambda found: rf"\({' '.join(found[1].split())}\)", text)
    text = DISPLAYED.sub(
        lambda found: indent(f"\n\\[{' '.join(found[2].split())}\\]\n\n", found[1]), text
    )
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    return re.sub(r"^( *)\| ", r"\1- ", text, flags=re.MULTILINE)
