"""The report says what the files say, all of it, safely, and whatever state the pipeline is in."""

from __future__ import annotations

import json
import random
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from statistics import median

import pytest

from pflow.report.numbers import format_number, over_seeds
from pflow.report.page import build_report
from tests.support.browser import CHROMIUM, Browser
from tests.support.imported import imported_by
from tests.support.png import noisy_png, png

METHODS = ("amortized", "preconditioned", "scratch")
SEEDS = (0, 1, 2)
VERDICTS = {
    "amortized": "do not use",
    "preconditioned": "trustworthy",
    "scratch": "usable with care",
}
KL = {"amortized": 0.31, "preconditioned": 0.0061, "scratch": 0.187}


def settings(name: str = "rosenbrock", **changes) -> dict:
    return {
        "name": name,
        "title": "Rosenbrock in two dimensions",
        "question": "Does pretraining with the wrong operator help?",
        "problem": {"name": "rosenbrock", "noise_std": 0.4, "mu": 0.0},
        "observations": {"paper": {"x_true": [2.0, 4.0], "scale": 1.0, "seed": 0}},
        "flows": {"coupling": {"name": "coupling", "depth": 8}},
        "finetune": {
            method: {
                "objective": "none" if method == "amortized" else "reverse_kl",
                "flow": "coupling",
                "label": "",
            }
            for method in METHODS
        },
        "seeds": list(SEEDS),
        "notes": ["The paper's 5x compares 80 iterations with 400, under different schedules."],
        "captions": {
            "posterior_2d": "Prior, data and posterior draws.",
            "accuracy": "KL divergence against evaluations.",
        },
    } | changes


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_results(results: Path, name: str = "rosenbrock", observation: str = "paper") -> None:
    """A finished experiment with made-up numbers."""
    folder = results / name
    software = {"python": "3.11.7", "torch": "2.13.0"}
    facts = {
        "code_version": "0.1.0 (abc123)",
        "settings_hash": "5e77",
        "inputs": {"pairs": "0011"},
        "device": "CPU",
        "software": software,
    }
    write(
        folder / "operator.json",
        {
            "linear": True,
            "dot_test_error": 3.1e-8,
            "taylor_slope": None,
            "seconds_per_gradient": 2.5e-6,
            "provenance": {},
        },
    )
    calibration = {
        "sbc_p_value": 0.42,
        "tarp_p_value": 0.17,
        "coverage_50": 0.51,
        "coverage_90": 0.893,
        "coverage_95": 0.95,
        "held_out_nats": 1.25,
        "pairs": 500,
    }
    write(
        folder / "pretrained/coupling/calibration.json",
        calibration
        | {"observations": {observation: {"ood_p_value": 0.3, "local_c2st_p_value": 0.061}}},
    )
    write(
        folder / "pretrained/coupling/flow.json",
        facts | {"wall_seconds": 12.7, "stop_reason": "epochs"},
    )
    for method in METHODS:
        for seed in SEEDS:
            run = folder / f"posteriors/{observation}/{method}/seed-{seed}"
            kl = KL[method] * (1 + 0.13 * seed)
            evaluations = 0 if method == "amortized" else 5120
            metrics = {
                "kl_reverse_nats": kl,
                "kl_reverse_nats_se": kl / 20,
                "kl_forward_nats": 1.1 * kl,
                "ess_fraction": 1 / (1 + kl),
                "elbo_nats": -3.4271 - kl,
                "log_evidence_error_nats": 0.00123 + seed * 1e-4,
                "evaluations": evaluations,
                "wall_seconds": 0.021 if method == "amortized" else 8.13 + seed,
                "device": "CPU",
                "mean_error_posterior_std": 0.8 * kl,
                "std_error_posterior_std": 0.4 * kl,
                "c2st": 0.5 + kl / 2,
                "pareto_k": 0.31 + kl,
                "score_error": 2 * kl,
                "predictive_chi_square": 0.98 + kl,
                "predictive_chi_square_spread": 0.06,
                "coverage_90": 0.9 - kl / 3,
                "missed_mass": kl / 7,
                "ood_p_value": 0.3,
                "sampling_forwards": 11000,
                "sampling_evaluations": 256,
                "checked_evaluations": 7,
                "invalid_evaluations": 3,
                "verdict": VERDICTS[method],
                "verdict_reasons": [
                    f"k-hat {0.31 + kl:.2f} of {method}",
                    "predictive chi-square 0.98",
                ],
            }
            if evaluations:
                metrics |= {
                    "evaluations_until_1_nats": 64 * (seed + 1),
                    "evaluations_until_0.1_nats": 5120,
                }
            write(run / "metrics.json", metrics)
            write(
                run / "flow.json",
                facts
                | {
                    "stop_reason": "evaluations_spent",
                    "warning": f"{method} mispredicts",
                    "skipped_steps": 0,
                    "evaluations": evaluations,
                },
            )
    png(folder / "figures/accuracy.png")
    png(folder / "figures/posterior_2d.png", width=1400)
    png(folder / "figures/extra_figure.png")


class Page(HTMLParser):
    """What a browser would see: elements with attributes, tables as rows of cells, text,
    nesting.
    """

    VOID = {"meta", "link", "img", "br", "input", "hr"}

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.tables: list[list[list[dict]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"unclosed elements: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(
                {"text": "", "value": None, "metric": attributes.get("data-metric")}
            )
        elif tag == "data" and self.cell is not None:
            self.cell["value"] = attributes["value"]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, text):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += text
        if self.cell is not None:
            self.cell["text"] += text

    @property
    def cell(self) -> dict | None:
        return (
            self.tables[-1][-1][-1] if {"td", "th"} & set(self.open) and self.tables[-1] else None
        )

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path)
    return tmp_path


def metric_values(results: Path, method: str, key: str) -> list[float]:
    return [
        json.loads(
            (results / f"rosenbrock/posteriors/paper/{method}/seed-{seed}/metrics.json").read_text()
        )[key]
        for seed in SEEDS
    ]


def test_every_number_of_the_tables_is_that_of_the_files(results: Path):
    page = Page(build_report(results, [settings()]))
    summary, cost, evidence, accuracy, _, every = page.tables[:6]
    for table in (summary, cost, evidence, accuracy):
        assert len(table) == 1 + len(METHODS)
        for row in table[1:]:
            method = next(
                method
                for method in METHODS
                if any(cell["text"].strip().startswith(method) for cell in row)
            )
            shown = {cell["metric"]: cell for cell in row if cell["metric"]}
            assert shown
            for key, cell in shown.items():
                expected = median(metric_values(results, method, key))
                assert float(cell["value"]) == expected
                assert (
                    cell["text"]
                    .strip()
                    .startswith(tuple(format_number(expected, digits) for digits in (2, 3, 4)))
                )
    seen = 0
    for row in every[1:]:
        for cell in row:
            if cell["metric"] and cell["metric"] not in ("device", "verdict"):
                method, seed = row[0]["text"].strip(), int(row[1]["value"])
                if cell["value"] is None:  # a divergence that was never reached
                    assert cell["metric"].startswith("evaluations_until")
                    continue
                assert float(cell["value"]) == metric_values(results, method, cell["metric"])[seed]
                seen += 1
    assert seen == len(METHODS) * len(SEEDS) * 22 + 2 * len(SEEDS) * (len(METHODS) - 1)


def test_the_benchmark_of_the_methods_stands_apart_from_the_results(results: Path):
    figure = next(results.rglob("*.png"))
    page = Page(build_report(results, [settings()], benchmark=figure))
    assert page.text.index("Which method for how many evaluations") > page.text.index(
        "How far to trust it"
    )
    assert "Not from your results" in page.text
    assert (
        "Which method for how many evaluations"
        not in Page(build_report(results, [settings()])).text
    )


def test_the_summary_comes_first_and_has_the_promised_columns(results: Path):
    page = Page(build_report(results, [settings()]))
    headings = [cell["text"].strip().lower() for cell in page.tables[0][0]]
    assert headings[:3] == ["experiment", "method", "verdict"]
    for word in (
        "experiment",
        "method",
        "kl(q‖posterior) (nats)",
        "ess fraction",
        "elbo (nats)",
        "evaluations",
        "wall time (s)",
    ):
        assert any(word in heading for heading in headings), word
    assert (
        page.text.index("Summary")
        < page.text.index("What was asked")
        < page.text.index("What was found")
    )
    assert (
        page.text.index("What was found")
        < page.text.index("What it cost")
        < page.text.index("How far to trust it")
    )


def test_the_worst_verdict_of_the_seeds_is_said_with_its_reasons(results: Path):
    path = results / "rosenbrock/posteriors/paper/preconditioned/seed-1/metrics.json"
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | {
                "verdict": "do not use",
                "verdict_reasons": ["a <mode> was lost"],
            }
        )
    )
    html = build_report(results, [settings(evaluate={"verdict": {"pareto_k": 0.7}})])
    page = Page(html)
    rows = {row[1]["text"].strip(): row[2] for row in page.tables[0][1:]}
    assert rows["amortized"]["value"] == "2" and "do not use" in rows["amortized"]["text"]
    assert rows["scratch"]["value"] == "1" and "usable with care" in rows["scratch"]["text"]
    assert (
        "do not use" in rows["preconditioned"]["text"]
        and "1 of 3 seeds do not use, 2 of 3 seeds trustworthy" in rows["preconditioned"]["text"]
    )
    why = {row[0]["text"].strip(): row[1]["text"] for row in page.tables[2][1:]}
    assert "a <mode> was lost" in why["preconditioned"] and "<mode>" not in html
    assert "of scratch" in why["scratch"]
    assert "pareto k" in page.text  # the rules


def test_calibration_of_the_pretrained_flows_is_shown(results: Path):
    calibration = Page(build_report(results, [settings()])).tables[4]
    assert [cell["value"] for cell in calibration[1][1:8]] == [
        "0.42",
        "0.17",
        "0.51",
        "0.893",
        "0.95",
        "1.25",
        "500",
    ]
    assert "paper 0.061" in calibration[1][-1]["text"]
    (results / "rosenbrock/pretrained/coupling/calibration.json").unlink()
    assert "\N{EN DASH}" in Page(build_report(results, [settings()])).tables[4][1][1]["text"]


def test_very_many_figures_become_thumbnails(results: Path):
    folder = results / "rosenbrock/figures"
    generator = random.Random(0)
    for index in range(30):  # noise does not compress: half a megabyte each
        noisy_png(folder / f"posterior_y{index:02d}.png", generator, 400)
    html = build_report(results, [settings()])
    assert len(html) < 15e6
    page = Page(html)
    assert len(page.all("img")) == 33
    assert "Reduced here; full size: rosenbrock/figures/posterior_y29.png" in page.text
    assert (
        "full size: rosenbrock/figures/posterior_2d.png" not in page.text
    )  # the first ones stay whole


def test_it_says_what_was_asked_and_found(results: Path):
    page = Page(build_report(results, [settings()]))
    text = " ".join(page.text.split())
    assert "Does pretraining with the wrong operator help?" in text
    assert "noise std 0.4" in text.replace("noise std0.4", "noise std 0.4")
    assert "80 iterations with 400" in text
    assert "Closest to the exact posterior came preconditioned" in text
    assert "Without spending any, amortized stands at 0.35 nats" in text
    assert (
        "rosenbrock/posteriors/paper/preconditioned/seed-0/posterior.zarr" in text
    )  # the closest one
    assert "open_datatree" in text and "0.1.0 (abc123)" in text and "torch 2.13.0" in text


def test_evaluations_until_a_divergence_are_medians_over_seeds(results: Path):
    page = Page(build_report(results, [settings()]))
    cost = {row[0]["text"].strip(): row for row in page.tables[1][1:]}
    assert [cell["value"] for cell in cost["preconditioned"][6:8]] == ["128", "5120"]
    assert cost["preconditioned"][8]["text"].strip() == "not reached"
    assert [cell["text"].strip() for cell in cost["amortized"][7:9]] == [
        "not reached",
        "not reached",
    ]


def test_the_page_is_self_contained(results: Path):
    html = build_report(results, [settings()])
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        if tag == "link":
            assert attributes["href"].startswith("data:")
        if tag == "a":
            assert attributes["href"].startswith(("#", "https://arxiv.org/"))
    assert "url(" not in html and "@import" not in html and "fetch(" not in html
    assert "default-src 'none'" in html


def test_figures_have_alternative_texts_captions_and_sizes(results: Path):
    page = Page(build_report(results, [settings()]))
    pictures = page.all("img")
    assert [picture["alt"] for picture in pictures] == [
        "Prior, data and posterior draws.",
        "KL divergence against evaluations.",
        "Extra figure",
    ]
    assert (pictures[0]["width"], pictures[0]["height"]) == ("1400", "20")
    assert len(page.all("figcaption")) == len(page.all("figure")) == 3
    assert "captions" not in page.text


def test_identifiers_are_unique_and_links_lead_somewhere(results: Path):
    write_results(results, "gaussian")
    page = Page(build_report(results, [settings(), settings("gaussian")]))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.elements:
        for target in [attributes.get("href", "")[1:]] * attributes.get("href", "").startswith(
            "#"
        ) + [attributes.get("aria-labelledby")]:
            assert target is None or target in identifiers


def test_runs_that_have_not_finished_are_named(results: Path):
    (results / "rosenbrock/posteriors/paper/scratch/seed-1/metrics.json").unlink()
    for seed in SEEDS:
        (results / f"rosenbrock/posteriors/paper/preconditioned/seed-{seed}/metrics.json").unlink()
    page = Page(build_report(results, [settings()]))
    assert "4 of 9 runs have not finished" in page.text
    rows = {row[1]["text"].split()[0]: row for row in page.tables[0][1:]}
    assert "0 of 3 seeds finished" in rows["preconditioned"][1]["text"]
    assert all("\N{EN DASH}" in cell["text"] for cell in rows["preconditioned"][2:])
    assert "2 of 3 seeds finished" in rows["scratch"][1]["text"]
    remaining = [
        json.loads(
            (results / f"rosenbrock/posteriors/paper/scratch/seed-{seed}/metrics.json").read_text()
        )["elbo_nats"]
        for seed in (0, 2)
    ]
    elbo = next(cell for cell in rows["scratch"] if cell["metric"] == "elbo_nats")
    assert float(elbo["value"]) == median(remaining)


@pytest.mark.parametrize("experiments", [[], [settings()], [{"name": "bare"}]])
def test_an_empty_results_folder_still_gives_a_page(tmp_path: Path, experiments: list[dict]):
    page = Page(build_report(tmp_path, experiments))
    if experiments:
        assert "No run of this experiment has finished yet" in page.text
        assert "There are no figures yet" in page.text
    else:
        assert "There are no experiments" in page.text


def test_a_damaged_file_is_reported_on_the_page(results: Path):
    (results / "rosenbrock/posteriors/paper/scratch/seed-1/metrics.json").write_text('{"kl_reverse')
    page = Page(build_report(results, [settings()]))
    assert "posteriors/paper/scratch/seed-1/metrics.json is not valid JSON" in page.text


def test_a_metric_that_does_not_apply_is_a_dash_and_nan_is_not_averaged_away(results: Path):
    for seed in SEEDS:
        path = results / f"rosenbrock/posteriors/paper/scratch/seed-{seed}/metrics.json"
        metrics = json.loads(path.read_text())
        del metrics["kl_forward_nats"]
        metrics["elbo_nats"] = float("nan") if seed == 2 else -3.0
        path.write_text(json.dumps(metrics))
    html = build_report(results, [settings()])
    page = Page(html)
    row = next(row for row in page.tables[3][1:] if row[0]["text"].strip() == "scratch")
    assert (
        next(cell for cell in row if cell["metric"] == "kl_forward_nats")["text"].strip()
        == "\N{EN DASH}"
    )
    assert '<span title="not applicable">\N{EN DASH}</span>' in html
    row = next(row for row in page.tables[0][1:] if row[1]["text"].strip() == "scratch")
    assert (
        next(cell for cell in row if cell["metric"] == "elbo_nats")["text"].strip() == "not finite"
    )


def test_all_text_is_escaped(results: Path):
    attack = "<script>alert('x')</script> & \"quotes\""
    (results / "rosenbrock/figures/posterior_2d.png").rename(results / "rosenbrock/figures/a&b.png")
    changes = {
        "title": attack,
        "question": attack,
        "notes": [attack],
        "captions": {"accuracy": attack},
        "problem": {"name": attack},
    }
    html = build_report(results, [settings(**changes)])
    assert "<script>alert" not in html
    page = Page(html)
    assert page.text.count(attack) >= 5
    assert page.all("img")[0]["alt"] == attack
    assert len(page.all("script")) == 1


def test_several_observations_are_told_apart(results: Path):
    write_results(results, observation="far")
    page = Page(build_report(results, [settings(observations=["paper", "far"])]))
    assert [row[1]["text"].strip() for row in page.tables[0][1:]] == ["paper"] * 3 + ["far"] * 3
    assert "far: Closest to the exact posterior" in " ".join(page.text.split())


def test_the_page_is_the_same_twice_and_hides_where_it_was_made(results: Path):
    html = build_report(results, [settings()])
    assert html == build_report(results, [settings()])
    assert str(results) not in html


def test_the_report_needs_no_heavy_library():
    names = imported_by("import pflow.report")
    assert not names & {"torch", "matplotlib", "xarray", "numpy", "zarr"}


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0"),
        (5120, 3, "5\N{NARROW NO-BREAK SPACE}120"),
        (5120.0, 3, "5\N{NARROW NO-BREAK SPACE}120"),
        (0.0123, 2, "0.012"),
        (0.0996, 2, "0.10"),
        (0.00996, 2, "0.010"),
        (-3.14159, 4, "−3.142"),
        (12345.678, 3, "12\N{NARROW NO-BREAK SPACE}346"),
        (2.5e-7, 2, "2.5 × 10⁻⁷"),
        (-1.26e-5, 2, "−1.3 × 10⁻⁵"),
        (float("inf"), 3, "not finite"),
    ],
)
def test_numbers_are_rounded_for_reading(value: float, digits: int, text: str):
    assert format_number(value, digits) == text


def test_median_over_seeds_with_its_range():
    cell = over_seeds([0.3, 0.1, 0.2, None, "CPU", True], digits=2)
    assert (cell.value, cell.text, cell.spread) == (0.2, "0.20", "0.10 to 0.30")
    assert over_seeds([5120, 5120]).spread == ""
    assert over_seeds([], missing="not finished yet").why == "not finished yet"


def test_style_and_script_are_inlined_once(results: Path):
    html = build_report(results, [settings()])
    assert (
        len(re.findall("<style>", html))
        == len(re.findall("<script>", html))
        == len(re.findall("<dialog", html))
        == 1
    )
    for part in ("prefers-color-scheme: dark", "@media print", "showModal"):
        assert part in html


IN_THE_BROWSER = """
<script>
const seen = {};
const methods = () => Array.from(document.querySelector("tbody").rows, row => row.cells[1].textContent.trim()).join(" ");
const headings = document.querySelectorAll("#summary thead button");
headings[3].focus(); headings[3].click();
seen.ascending = methods();
headings[3].click();
seen.descending = methods();
seen.direction = headings[3].closest("th").getAttribute("aria-sort");
document.querySelector("figure button").click();
seen.opened = String(document.querySelector("dialog").open);
seen.caption = document.querySelector("dialog p").textContent;
seen.source = document.querySelector("dialog img").src.slice(0, 15);
document.querySelector("dialog button").click();
seen.closed = String(document.querySelector("dialog").open);
seen.overflow = String(document.documentElement.scrollWidth > innerWidth);
const output = document.createElement("output");
output.textContent = JSON.stringify(seen);
document.body.append(output);
</script></body>"""  # noqa: E501


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_sorting_and_enlarging_work_in_a_browser(results: Path, tmp_path: Path):
    for seed in SEEDS:  # a method without numbers stays last, whichever way one sorts
        (results / f"rosenbrock/posteriors/paper/amortized/seed-{seed}/metrics.json").unlink()
    file = tmp_path / "page.html"
    file.write_text(
        build_report(results, [settings()]).replace("</body>", IN_THE_BROWSER), encoding="utf-8"
    )
    switches = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
        " --disable-background-networking --disable-component-update --disable-sync"
    )
    command = [
        "chromium",
        *switches.split(),
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = json.loads(re.search("<output>(.*)</output>", done.stdout).group(1))
    amortized = "amortized 0 of 3 seeds finished"
    assert seen["ascending"] == f"preconditioned scratch {amortized}"
    assert seen["descending"] == f"scratch preconditioned {amortized}"
    assert seen["direction"] == "descending"
    assert (seen["opened"], seen["closed"]) == ("true", "false")
    assert seen["caption"] == "Prior, data and posterior draws." and seen["source"].startswith(
        "data:image/png"
    )
    assert seen["overflow"] == "false"


FOCUS = "document.activeElement"
DIALOG = "document.querySelector('dialog')"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_it_works_with_a_keyboard_on_a_phone_in_the_dark_and_on_paper(
    results: Path, tmp_path: Path
):
    page = tmp_path / "page.html"
    page.write_text(
        build_report(results, [settings(evaluate={"verdict": {"pareto_k": 0.7}})]), encoding="utf-8"
    )
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        reached = set()
        for _ in range(60):  # Tab alone leads to every table, heading, fold and figure
            browser.press("Tab")
            reached.add(
                browser.run(
                    f"{FOCUS}.closest('figure') ? 'figure' : {FOCUS}.closest('th') ? 'heading' :"
                    f" {FOCUS}.tagName + {FOCUS}.className"
                )
            )
        assert {"figure", "heading", "DIVscroll", "SUMMARY"} <= reached

        browser.run("document.querySelectorAll('#summary thead button')[3].focus()")
        values = (
            "Array.from(document.querySelector('tbody').rows, row =>"
            " Number(row.cells[3].querySelector('data').value)).join()"
        )
        browser.press("Enter")
        ascending = browser.run(values).split(",")
        browser.press("Space")
        assert (
            ascending == sorted(ascending, key=float)
            and browser.run(values).split(",") == ascending[::-1]
        )

        browser.run("document.querySelector('figure button').focus()")
        browser.press("Enter")
        assert browser.run(f"{DIALOG}.open && {DIALOG}.contains({FOCUS})")
        wide = browser.run("document.querySelector('dialog img').getBoundingClientRect().width")
        assert wide > browser.run(
            "document.querySelector('figure img').getBoundingClientRect().width"
        )
        browser.press("Escape")
        assert not browser.run(f"{DIALOG}.open") and browser.run(
            f"{FOCUS} === document.querySelector('figure button')"
        )
        browser.press("Enter", "Enter")  # the second one closes: the focus is on the button
        assert not browser.run(f"{DIALOG}.open")

        brightness = (
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a,"
            " b) => a + b)"
        )
        assert browser.run(brightness) > 600
        for width, height in ((390, 844), (1280, 900)):
            browser.open(page, width, height, prefers_color_scheme="dark")
            assert browser.run(brightness) < 150
            assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (
                f"{width} pixels are not wide enough"
            )
        browser.print(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
        assert (
            browser.run("document.querySelectorAll('details[open]').length") == 0
        )  # folded again after printing
        assert browser.requests == [] and browser.complaints == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_many_observations_stay_a_page_that_can_be_sent(tmp_path: Path):
    names = [f"y{index:02d}" for index in range(40)]
    for name in names:
        write_results(tmp_path, observation=name)
    generator = random.Random(0)
    for name in names:
        noisy_png(tmp_path / f"rosenbrock/figures/posterior_{name}.png", generator, 400)
    page = tmp_path / "page.html"
    page.write_text(build_report(tmp_path, [settings(observations=names)]), encoding="utf-8")
    assert page.stat().st_size < 15e6
    with Browser(tmp_path / "profile") as browser:
        browser.open(page, 390, 844)
        assert browser.run(
            "Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)"
        )
        assert browser.run("document.images.length") == 43
        assert browser.run("document.querySelector('#summary tbody').rows.length") == 120
        assert browser.requests == [] and browser.complaints == []


def test_what_a_method_warns_of_stands_beside_why_it_stopped(results: Path):
    page = Page(build_report(results, [settings()]))
    for method in METHODS:
        assert f"evaluations spent; warning: {method} mispredicts" in page.text
