"""The page shows the posterior with the best verdict at each observation: figures and intervals."""

from __future__ import annotations

from pathlib import Path

import pytest

from pflow.report.best import beside
from pflow.report.page import build_report
from tests.report.test_page import Page, settings, write_results
from tests.support.browser import CHROMIUM, Browser
from tests.support.png import png

ROWS = [
    {"parameter": "depth", "unit": "km", "mean": 1.23456789, "std": 0.0021, "q05": 1.2311}
    | {"q25": 1.233, "median": 1.2346, "q75": 1.236, "q95": 1.238, "prior_q05": 0.1}
    | {"prior_q95": 9.9, "contraction": 0.9931, "true_value": 1.2},
    {"parameter": "width", "unit": "1", "mean": -5.0, "std": 2.0, "q05": -8.0}
    | {"q25": -6.0, "median": -5.0, "q75": -4.0, "q95": -2.0, "prior_q05": -8.2}
    | {"prior_q95": -1.9, "contraction": 0.02},
]
BEST = {
    "method": "preconditioned",
    "verdict": "trustworthy",
    "figures": ["best_marginals"],
    "intervals": ROWS,
    "parameters": 30,
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path)
    png(tmp_path / "rosenbrock/figures/best_marginals.png")
    return tmp_path


def page(results: Path, priors: dict[str, str] | None = None, **changes: object) -> Page:
    named = settings(best={"paper": BEST | changes}) | {
        "captions": {"best_marginals": "Each parameter.", "accuracy": "KL divergence."}
    }
    for method, prior in (priors or {}).items():
        named["finetune"][method]["prior"] = {"name": prior}
    return Page(build_report(results, [named]))


def section(text: str) -> str:
    return text[text.index("The posterior\n") : text.index("What was found")]


def test_it_comes_before_the_comparison_of_methods_with_its_verdict(results: Path):
    shown = page(results)
    of_best = section(shown.text)
    assert "of preconditioned, the method with the best verdict" in of_best
    assert "trustworthy" in of_best and "Each parameter." in of_best
    assert "Each parameter." not in shown.text.replace(of_best, "")  # once on the page
    assert "KL divergence." not in of_best


def test_it_says_under_which_prior_it_is_the_best(results: Path):
    of_best = section(page(results, {"scratch": "gaussian"}).text)
    assert "the method with the best verdict under the experiment's prior:" in of_best
    text = page(results, {"preconditioned": "gaussian"}).text
    assert "under a prior of its own (no method under the experiment's prior has" in section(text)
    # preconditioned has the smallest KL, to the posterior under another prior
    assert "Closest to the exact posterior came scratch" in text
    assert "rosenbrock/posteriors/paper/preconditioned/seed-0/posterior.zarr" in text  # as shown


def test_every_interval_is_in_the_table_to_the_digits_that_its_spread_leaves(results: Path):
    (table,) = [
        table for table in page(results).tables if table[0][0]["text"].startswith("Parameter")
    ]
    depth, width = table[1:]
    assert depth[0]["text"] == "depth (km)" and width[0]["text"] == "width"
    for row, cells in zip(ROWS, (depth, width), strict=True):
        for cell in cells[1:]:
            expected = row.get(cell["metric"])
            assert cell["value"] == (None if expected is None else str(expected)), cell
    assert [cell["text"].strip() for cell in depth[1:4]] == ["1.2346", "0.0021", "1.2311"]
    assert width[-1]["text"].strip() == "\N{EN DASH}"  # no true value is known
    assert "of 2 among 30 parameters" in section(page(results).text)


def test_where_no_posterior_can_be_used_the_page_says_so(results: Path):
    of_best = section(page(results, verdict="do not use").text)
    assert "No method has a posterior that can be used" in of_best and "do not use" in of_best


def test_without_posteriors_or_table_there_is_no_empty_section(results: Path):
    assert "The posterior\n" not in Page(build_report(results, [settings()])).text
    assert "Quantiles of the draws" not in page(results, intervals=[]).text


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [(1234.56789, 0.021, "1\u202f234.568"), (0.0, 1.0, "0"), (3.0, 0.0, "3"), (0.5, 200.0, "0.5")],
)
def test_digits_follow_the_spread(value: float, spread: float, text: str):
    assert beside(value, spread) == text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_every_table_fits_a_window_of_1100_pixels(results: Path, tmp_path: Path):
    write_results(results, observation="second_line")
    observations = {"paper": {"seed": 0}, "second_line": {"seed": 1}}
    file = tmp_path / "report.html"
    file.write_text(
        build_report(results, [settings(best={"paper": BEST}, observations=observations)])
    )
    with Browser(tmp_path / "profile") as browser:
        browser.open(file, width=1100)
        too_wide = browser.run(
            "[...document.querySelectorAll('.scroll')].filter(part => !part.closest('.screen')"
            " && part.scrollWidth > part.clientWidth).map(part => part.textContent).join()"
        )
    assert too_wide == ""
