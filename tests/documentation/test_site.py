"""The site: what it says of the library is complete, its formulas are drawn, and a strict build of
it has no warning (which a link to nowhere would be).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pflow
from pflow.problems import BUILT_IN

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DESCRIBED = re.findall(
    r"^::: (\S+)", "\n".join(page.read_text() for page in sorted(DOCS.glob("api/*.md"))), re.M
)
FORMULA = re.compile(r":math:`([^`]+)`")


def hook(name: str):
    """A module of docs/hooks."""
    for needed in ("mkdocs", "griffe", "docutils"):
        pytest.importorskip(needed)
    place = importlib.util.spec_from_file_location(f"hook_{name}", DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def found(path: str) -> object:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    return importlib.import_module(path) if not module else getattr(_module(module), name)


def _module(path: str):
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return found(path)


@pytest.mark.parametrize("path", DESCRIBED)
def test_what_the_reference_describes_exists_and_has_a_docstring(path):
    described = importlib.import_module(path) if path == "pflow.posterior" else found(path)
    assert described.__doc__, f"{path} has no docstring"


@pytest.mark.parametrize(
    "room", ["pflow.operators.adapters", "pflow.problems.priors", "pflow.problems.noise"]
)
def test_everything_that_a_room_hands_on_is_described(room):
    names = {path.rpartition(".")[2] for path in DESCRIBED}
    module = importlib.import_module(room)
    public = {name for name in module.__all__ if isinstance(getattr(module, name), type)}
    assert public - names == set()


def test_what_pflow_offers_and_its_problems_are_described():
    names = {path.rpartition(".")[2] for path in DESCRIBED}
    assert set(pflow._LAZY) - names == set()
    assert {problem.__name__ for problem in BUILT_IN} - names == set()


def test_formulas_of_docstrings_become_mathml():
    mathml, for_markdown = hook("mathematics").mathml, hook("docstrings").for_markdown
    for file in sorted((ROOT / "pflow").rglob("*.py")):
        text = for_markdown(file.read_text())
        assert ":math:" not in text and ".. math::" not in text, file
        for sign, formula in re.findall(r"\\([(\[])(.+?)\\[)\]]", text):
            if FORMULA.search(file.read_text()):
                assert "<math" in mathml(formula, block=sign == "["), file


def test_a_docstring_is_rewritten_for_markdown():
    text = (
        "Solves :math:`A\n    x = y`.\n\n    .. math::\n        a = b\n        + c\n\n"
        "    .. math:: d\n\n    Example:\n        >>> 1\n\n"
        "    References:\n        | A title, link\n"
    )
    written = re.sub(r"\n\n+", "\n\n", hook("docstrings").for_markdown(text))
    assert written == (
        "Solves \\(A x = y\\).\n\n    \\[a = b + c\\]\n\n    \\[d\\]\n\n"
        "    Examples:\n        >>> 1\n\n    References:\n        - A title, link\n"
    )


def test_a_marked_formula_of_a_page_is_drawn_and_other_text_is_left():
    page = '<p>With <span class="arithmatex">\\(x_i &lt; 1\\)</span> and <code>\\(a\\)</code></p>'
    drawn = hook("mathematics").on_page_content(page)
    assert "<msub>" in drawn and "&lt;" in drawn and drawn.endswith("<code>\\(a\\)</code></p>")


@pytest.mark.slow
def test_a_strict_build_has_no_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    pages = {file.relative_to(tmp_path).as_posix(): file for file in tmp_path.rglob("*.html")}
    assert {"index.html", "gallery.html", "notebooks/own_operator.html"} <= set(pages)
    assert "pflow run" in pages["command_line.html"].read_text()
    assert "<math" in pages["api/operators.html"].read_text()
    for name, file in pages.items():
        loaded = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)', file.read_text()
        )
        assert loaded == [], name
