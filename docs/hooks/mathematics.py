"""Formulas become MathML when the site is built. Browsers draw it by themselves: no script and no
font is loaded.
"""

from __future__ import annotations

import re
from html import unescape

from docutils.utils.math.latex2mathml import tex2mathml

FUNCTION = re.compile(r"\\(log|det|exp|max|min)(?=\s+[\\\w])")
MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    """Replace what arithmatex has marked."""
    return MARKED.sub(lambda found: mathml(unescape(found[3]), block=found[2] == "["), html)


def mathml(formula: str, block: bool) -> str:
    """A formula of LaTeX, in the text or displayed."""
    spaced = FUNCTION.sub(r"\\\1\\,", formula.strip())  # docutils sets log p without a space
    drawn = tex2mathml(spaced, as_block=block)
    return f'<div class="formula">{drawn}</div>' if block else drawn
