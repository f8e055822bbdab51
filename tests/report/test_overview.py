"""Very many observations: the verdicts are counted, all are in one table, the worst come first and
alone have details.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pflow.report.page import build_report
from pflow.report.ranking import (
    MANY,
    best_method,
    other_priors,
    shown_observations,
    worst_first,
)
from tests.report.test_page import Page, settings, write
from tests.support.browser import CHROMIUM, Browser

COUNT, BAD, USABLE = 60, 2, 7
NAMES = [f"site-{k}" for k in range(COUNT)]
TRUSTED, CARE, REFUSED = "trustworthy", "usable with care", "do not use"


def verdict(k: int) -> str:
    return REFUSED if k % 30 == 13 else CARE if k % 8 == 5 else TRUSTED


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The preconditioned method has a verdict that depends on the observation, the amortised one
    none that can be used; the last observation has not finished.
    """
    for k, name in enumerate(NAMES[:-1]):
        for method, judged in (("amortized", REFUSED), ("preconditioned", verdict(k))):
            metrics = {"verdict": judged, "score_error": 0.1 + k / 1000, "evaluations": 64}
            metrics["verdict_reasons"] = [f"reason of {name} {method}"]
            run = tmp_path / f"rosenbrock/posteriors/{name}/{method}/seed-0"
            write(run / "metrics.json", metrics)
    methods = {name: {"label": ""} for name in ("amortized", "preconditioned")}
    named = settings(observations=NAMES, finetune=methods, seeds=[0])
    file = tmp_path / "report.html"
    file.write_text(build_report(tmp_path, [named]), encoding="utf-8")
    return file


def test_best_method_and_worst_observation():
    usable, trusted = {"verdict": CARE}, {"verdict": TRUSTED}
    metrics = {
        "amortized": [{"verdict": REFUSED, "kl_reverse_nats": 0.001}],
        "lucky": [trusted | {"kl_reverse_nats": 0.001}, usable | {"kl_reverse_nats": 0.001}],
        "preconditioned": [trusted | {"kl_reverse_nats": 0.3}] * 2,
        "scratch": [trusted | {"kl_reverse_nats": 0.2}] * 2,
    }
    assert best_method(metrics) == "scratch"  # the worst seed decides, then KL
    assert best_method({"a": [usable | {"score_error": 0.3}], "b": [usable]}) == "a"
    near = {"a": [usable | {"score_error": 0.3, "sliced_wasserstein": 0.2}]}
    near["b"] = [usable | {"score_error": 0.4, "sliced_wasserstein": 0.06}]
    assert best_method(near) == "b"  # a reference says more than scores
    assert best_method({"a": [{}], "b": [{}]}) == "a"
    likelier = {"a": [usable | {"held_out_nats": 1.0}], "b": [usable | {"held_out_nats": -2.0}]}
    assert best_method(likelier) == "b"  # amortised alone: by the truths of held-out pairs
    observations = {
        "good": metrics,
        "unfinished": {"a": [], "b": []},
        "bad": {"a": [{"verdict": REFUSED}], "b": []},
        "worse": {"a": [{"verdict": REFUSED, "score_error": 9.0}], "b": []},
    }
    # what was not measured counts as large
    assert worst_first(observations) == ["bad", "worse", "good", "unfinished"]
    assert shown_observations(observations) == list(observations)


def test_another_prior_is_chosen_only_where_nothing_else_can_be_used():
    metrics = {
        "control": [{"verdict": TRUSTED, "kl_reverse_nats": 0.0}],
        "scratch": [{"verdict": CARE, "score_error": 0.9}],
        "preconditioned": [{"verdict": CARE, "score_error": 0.4}],
    }
    assert best_method(metrics) == "control"
    assert best_method(metrics, ["control"]) == "preconditioned"
    unusable = {"control": metrics["control"], "scratch": [{"verdict": REFUSED}]}
    assert best_method(unusable, ["control"]) == "control"
    assert best_method({"control": metrics["control"], "scratch": [{}]}, ["control"]) == "control"
    observations = {"one": metrics, "two": {"scratch": [{"verdict": CARE, "score_error": 0.5}]}}
    assert worst_first(observations, ["control"]) == ["two", "one"]
    methods = {"a": None, "b": {"prior": {"name": "gaussian"}}, "c": {"prior": {"name": "flow"}}}
    assert other_priors(methods, {"name": "flow"}) == ["b"]


def test_verdicts_are_counted_and_every_observation_has_a_row_the_worst_first(page: Path):
    assert COUNT > MANY
    shown = Page(page.read_text(encoding="utf-8"))
    counts = next(t for t in shown.tables if t[0][1]["text"].startswith(TRUSTED))
    numbers = {row[0]["text"]: [int(cell["value"]) for cell in row[1:]] for row in counts[1:]}
    expected = [[verdict(k) for k in range(COUNT - 1)].count(v) for v in (TRUSTED, CARE, REFUSED)]
    assert numbers["preconditioned"] == numbers["best of them"] == [*expected, 1]
    assert numbers["amortized"] == [0, 0, COUNT - 1, 1]
    rows = next(t for t in shown.tables if t[0][0]["text"].startswith("Observation"))[1:]
    names = [row[0]["text"] for row in rows]
    assert sorted(names) == sorted(NAMES) and names[-1] == NAMES[-1]
    assert [row[2]["text"] for row in rows[:-1]] == sorted(
        (row[2]["text"] for row in rows[:-1]),
        key=lambda text: -int(REFUSED in text) * 2 - (CARE in text),
    )


def test_only_the_worst_have_details_and_the_summary_has_a_row_a_method(page: Path):
    text = page.read_text(encoding="utf-8")
    for k, name in enumerate(NAMES[:-1]):
        if verdict(k) == REFUSED:
            assert f"reason of {name} preconditioned" in text
    assert sum(f"reason of {name} preconditioned" in text for name in NAMES) == 20
    summary = Page(text).tables[0]
    assert len(summary) == 3 and summary[1][1]["text"] == f"{COUNT} observations"
    assert "2 of 120 runs have not finished" in text


def test_a_thousand_observations_stay_small(tmp_path: Path):
    metrics = {"verdict": TRUSTED, "score_error": 0.1, "pareto_k": 0.3, "evaluations": 64}
    names = [f"site-{k}" for k in range(1000)]
    for name in names:
        folder = tmp_path / f"rosenbrock/posteriors/{name}/preconditioned/seed-0"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
    named = settings(observations=names, finetune={"preconditioned": {"label": ""}}, seeds=[0])
    assert len(build_report(tmp_path, [named])) < 2e6


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_table_is_searched_and_turned_in_a_browser(page: Path, tmp_path: Path):
    visible = (
        "[...document.querySelectorAll('.paged tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[0].textContent)"
    )
    with Browser(tmp_path / "profile") as browser:
        browser.open(page, width=1100)
        assert browser.run(f"{visible}.length") == 25
        first = browser.run(visible)
        browser.run("document.querySelectorAll('.pager button')[1].click()")
        assert not set(browser.run(visible)) & set(first)
        browser.run("document.querySelector('.pager input').value = 'site-43'")
        browser.run("document.querySelector('.pager input').dispatchEvent(new Event('input'))")
        assert browser.run(visible) == ["site-43"]
        assert browser.run("document.querySelector('.pager span').textContent") == "1 to 1 of 1"
        assert browser.complaints == []
