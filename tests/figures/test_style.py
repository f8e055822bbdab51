"""Colours that stay with their method, files that stay the same, settings that do not leak."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from pflow.figures.curves import accuracy_against_evaluations
from pflow.figures.palette import (
    EXACT,
    KNOWN,
    OTHERS,
    method_colour,
    method_label,
    method_line_style,
)
from pflow.figures.style import SETTINGS, new_figure, save, style
from tests.support.imported import imported_by

DEFAULTS = ["amortized", "preconditioned", "scratch", "seed_paper", "seed_paper_scratch"]


def example():
    kl = np.geomspace(1, 0.01, 3)
    return accuracy_against_evaluations(
        {"preconditioned": [{"evaluations": [0, 64, 640], "kl_reverse_nats": kl}]}
    )


def test_default_methods_have_colours_of_their_own_whatever_else_is_drawn():
    assert len({method_colour(name, DEFAULTS) for name in DEFAULTS}) == len(DEFAULTS)
    for name in DEFAULTS:
        assert method_colour(name, [name]) == method_colour(name, ["mine", *DEFAULTS])
    assert method_colour("exact", []) == method_colour("reference", []) == EXACT


def test_other_methods_take_what_is_free_and_repeat_with_another_line():
    names = [*DEFAULTS, *(f"mine_{i}" for i in range(6))]
    looks = {(method_colour(name, names), method_line_style(name, names)) for name in names}
    assert len(looks) == len(names)
    assert method_colour("mine_0", names) not in {KNOWN[name] for name in DEFAULTS}
    assert method_line_style("mine_0", names) == "-"
    assert set(OTHERS) >= {method_colour(name, names) for name in names}


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'mine' must be one of the methods .* scratch"):
        method_colour("mine", ["scratch"])


def test_labels():
    assert method_label("seed_paper") == "seed paper"
    assert method_label("seed_paper", {"seed_paper": "the paper's"}) == "the paper's"
    assert method_label("seed_paper", {"seed_paper": ""}) == "seed paper"


def test_files_are_the_same_twice_and_tell_nothing_of_when_or_by_what(tmp_path: Path):
    first = save(example(), tmp_path / "a.png", svg=True)
    second = save(example(), tmp_path / "b.png", svg=True)
    assert [path.name for path in first] == ["a.png", "a.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"Software" not in first[0].read_bytes()
    assert (
        b"dc:date" not in first[1].read_bytes() and b"matplotlib.org" not in first[1].read_bytes()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_png_has_150_dots_an_inch(tmp_path: Path):
    [path] = save(new_figure(4, 2), tmp_path / "empty.png")
    header = path.read_bytes()[16:24]
    assert (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")) == (600, 300)


def fail(*_: object) -> None:
    raise ValueError("while drawing")


@pytest.mark.parametrize("label", ["$5_{", "$5_{$", "a_$ \\frac", "\u2713 100 %"])
def test_labels_are_text_and_not_mathematics(tmp_path: Path, label: str):
    history = {"evaluations": [0, 64, 640], "kl_reverse_nats": np.geomspace(1, 0.01, 3)}
    figure = accuracy_against_evaluations({"mine": [history]}, labels={"mine": label})
    assert len(save(figure, tmp_path / "a.png", svg=True)) == 2
    assert label in [text.get_text() for text in figure.findobj(Text)]


def test_a_failure_leaves_nothing_behind(tmp_path: Path):
    figure = new_figure(4, 2)
    figure.text(0.5, 0.5, "a box", bbox={"boxstyle": fail})
    with pytest.raises(ValueError, match="while drawing"):
        save(figure, tmp_path / "broken.png")
    assert list(tmp_path.iterdir()) == []


def test_settings_do_not_leak():
    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["svg.hashsalt"] == SETTINGS["svg.hashsalt"] == "pflow"
    example()
    assert dict(matplotlib.rcParams) == before


def test_no_pyplot_and_nothing_of_ours_is_imported():
    rooms = ("posterior", "curves", "marginals", "style")
    names = imported_by(f"import {', '.join(f'pflow.figures.{room}' for room in rooms)}")
    assert "matplotlib.pyplot" not in names
    ours = [name for name in names if name.startswith("pflow.")]
    assert all(name.startswith("pflow.figures") for name in ours), ours
