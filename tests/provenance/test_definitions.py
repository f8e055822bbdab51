"""What a piece of code uses, and what follows from it, on small modules made up for the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from pflow.provenance import modules
from pflow.provenance.code import entry_fingerprint, forget_code, reached

SETTING = "from pflow.config.decoding import setting\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules of a pflow of its own, and says what `pflow.a:start` reaches."""
    monkeypatch.setattr(modules, "ROOT", tmp_path)

    def write(files: dict[str, str]) -> set[str]:
        for name, text in files.items():
            path = Path(tmp_path, *name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text)
        forget_code()
        return {
            f"{node.module.removeprefix('pflow.')}:{node.name}"
            for node in reached(["pflow.a:start"])
            if node.name
        } - {"a:start"}

    yield write
    forget_code()


USES = {
    "a constant, and what it is made from": (
        "B = 1\nA = B + 1\nC = 2\ndef start(): return A",
        {"a:A", "a:B"},
    ),
    "names that are bound at once": (
        "A, B = 1, 2\nC = 3\ndef start(): return B",
        {"a:A", "a:B"},
    ),
    "a default and a decorator": (
        "A = 1\nB = 2\ndef f(g): return g\n@f\ndef start(x=A): return x",
        {"a:A", "a:f"},
    ),
    "a nested function": ("A = 1\ndef start():\n def g(): return A\n return g", {"a:A"}),
    "a lambda and a comprehension": (
        "A = 1\nB = 2\ndef start(): return lambda: [A for x in B]",
        {"a:A", "a:B"},
    ),
    "an attribute of a class": (
        "A = 1\nB = 2\nclass C:\n x = A\n def f(self): return B\ndef start(): return C.x",
        {"a:A", "a:B", "a:C"},
    ),
    "a base class and a metaclass": (
        "class A: pass\nclass M(type): pass\nclass C(A, metaclass=M): pass\ndef start(): C()",
        {"a:A", "a:M", "a:C"},
    ),
    "a local name hides the module's": (
        "A = B = C = 1\ndef start(A):\n B = 2\n for C in A: pass\n return A + B + C",
        set(),
    ),
    "a local name does not hide it elsewhere": (
        "A = 1\ndef start():\n def g():\n  A = 2\n return A",
        {"a:A"},
    ),
    "the name in a comprehension is not the function's": (
        "A = 1\ndef start():\n x = [A for A in (1, 2)]\n return A",
        {"a:A"},
    ),
    "a method does not see the names of its class": (
        "A = 1\nclass C:\n A = 2\n def f(self): return A\ndef start(): C",
        {"a:A", "a:C"},
    ),
    "a global that is assigned": ("A = 1\ndef start():\n global A\n A = 2\n", {"a:A"}),
    "annotations of a function do not count": (
        "class A: pass\ndef start(x) -> A:\n y: A = x\n return y",
        set(),
    ),
    "annotations of a class's attributes do": (
        "class A: pass\nclass C:\n x: A\ndef start(): C()",
        {"a:A", "a:C"},
    ),
    "what only type checkers import does not count": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from pflow.b import A\n"
        "def start(): return A",
        set(),
    ),
}


@pytest.mark.parametrize("kind", USES)
def test_names_are_followed_by_the_rules_of_scope(package, kind):
    code, expected = USES[kind]
    assert package({"a": code, "b": "A = 1"}) == expected


def test_settings_that_a_stage_takes_are_reached_through_its_annotation(package):
    code = f"{SETTING}class A: pass\nclass S:\n x: A = setting('x')\ndef start(s: S): pass"
    assert package({"a": code, "config.decoding": "def setting(): pass"}) == {"a:S", "a:A"}


IMPORTS = {
    "a name": ("from pflow.b import A\ndef start(): A", {"b:A"}),
    "under another name": ("from pflow.b import A as X\ndef start(): X", {"b:A"}),
    "handed on by a package": ("from pflow.p import A\ndef start(): A", {"b:A"}),
    "an attribute of a module": ("from pflow import b\ndef start(): b.A", {"b:A"}),
    "of a module named in full": ("import pflow.b\ndef start(): pflow.b.A", {"b:A"}),
    "of a module under another name": ("import pflow.b as m\ndef start(): m.A.x", {"b:A"}),
    "all names of a module": ("from pflow.b import *\ndef start(): A", {"b:A"}),
    "inside a function": ("def start():\n from pflow.b import A\n A", {"b:A"}),
    "inside a condition of a function": (
        "def start(x):\n if x:\n  import pflow.b\n  pflow.b.A",
        {"b:A", "b:B"},
    ),
    "inside try": (
        "try:\n from pflow.b import A\nexcept ImportError:\n A = None\ndef start(): A",
        {"a:A", "b:A"},
    ),
    "a module handed on as a whole": (
        "from pflow import b\ndef start(n): getattr(b, n)",
        {"b:A", "b:B"},
    ),
    "a module named by importlib": (
        "import importlib\ndef start(): importlib.import_module('pflow.b')",
        {"b:A", "b:B"},
    ),
    "a name that cannot be found": ("from pflow import b\ndef start(): b.missing", {"b:A", "b:B"}),
    "nothing that is imported and not used": ("from pflow.b import A\ndef start(): pass", set()),
    "another library": ("import math\ndef start(): math.pi", set()),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_names_are_followed_through_imports(package, kind):
    code, expected = IMPORTS[kind]
    files = {"b": "A = 1\nB = 2", "p.__init__": "from pflow.b import A\nfrom pflow.b import B"}
    assert package({**files, "a": code}) == expected


CONTENT = {
    "a statement of an imported module": ("b", "A = 1\nprint(2)", True),
    "a statement of a module imported by that": ("c", "print(2)", True),
    "another definition of an imported module": ("b", "from pflow import c\nA = 1\nB = 3", False),
    "an item of a constant": ("a", "from pflow.b import A\nD = {}\nD[1] = 3\ndef start(): A", True),
    "in which order statements run": (
        "a",
        "from pflow.b import A\nprint(1)\nprint(0)\ndef start(): A",
        True,
    ),
    "which of two definitions is used": (
        "a",
        "from pflow.c import A\nprint(0)\nprint(1)\ndef start(): A",
        True,
    ),
    "parentheses, comments, docstrings": (
        "a",
        'from pflow.b import A  # here\nprint(0)\nprint(1)\ndef start():\n "It."\n (A)',
        False,
    ),
}


@pytest.mark.parametrize("kind", CONTENT)
def test_the_fingerprint_holds_what_code_does(package, kind):
    name, text, changes = CONTENT[kind]
    code = "from pflow.b import A\nprint(0)\nprint(1)\ndef start(): A"
    package({"a": code, "b": "from pflow import c\nA = 1\nB = 2", "c": "A = 2"})
    before = entry_fingerprint("pflow.a:start")
    package({name: text})
    assert (entry_fingerprint("pflow.a:start") != before) == changes


FIELDS = {
    "a description": ("x: int = setting('Other words.', 1, minimum=0)", False, False),
    "a bound": ("x: int = setting('An x.', 1, minimum=5)", False, False),
    "a default": ("x: int = setting('An x.', 2, minimum=0)", False, True),
    "a new field": (
        "x: int = setting('An x.', 1, minimum=0)\n y: int = setting('A y.', 1)",
        False,
        True,
    ),
    "a constant of the class": ("x: int = setting('An x.', 1, minimum=0)\n z = 1", True, True),
    "a method": ("x: int = setting('An x.', 1, minimum=0)\n def f(self): pass", True, True),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_of_settings_count_where_code_builds_them(package, kind):
    body, where_read, where_built = FIELDS[kind]
    plain = f"{SETTING}class S:\n x: int = setting('An x.', 1, minimum=0)"
    read = "from pflow.s import S\ndef start(s): return isinstance(s, S)"
    built = "from pflow.s import S\ndef start(): return S()"
    package({"a": read, "b": built.replace("start", "begin"), "s": plain})
    package({"config.decoding": "def setting(): pass"})
    entries = "pflow.a:start", "pflow.b:begin"
    before = [entry_fingerprint(entry) for entry in entries]
    package({"s": f"{SETTING}class S:\n {body}"})
    after = [entry_fingerprint(entry) for entry in entries]
    assert [old != new for old, new in zip(before, after, strict=True)] == [where_read, where_built]


def test_settings_that_a_job_does_not_choose_do_not_count(package):
    kinds = "".join(
        f"class {name}:\n tag_value = '{tag}'\n def f(self): pass\n"
        for name, tag in (("A", "one"), ("B", "two"))
    )
    package({"a": f"{kinds}class S:\n x: A | B\ndef start(s: S): isinstance(s.x, A)"})
    found = {node.name for node in reached(["pflow.a:start"], frozenset({"two"}))}
    assert found == {"", "start", "S", "B"}
