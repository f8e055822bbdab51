"""What reruns when something changes: the table of docs/execution.md, walked on real (tiny)
results.

Each job is known by its message. A plan must equal the expected set exactly: a job more is time
wasted, a job less is a stale result taken for fresh.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pflow
from pflow.storage.store import read_arrays, write_arrays
from pflow.storage.weights import write_weights
from tests.support.project import TINY, Project

pytestmark = pytest.mark.slow

RUNS = ("amortized", "preconditioned", "seed_paper_scratch")
TUNED = RUNS[1:]
SIMULATED = (
    "train pairs, shard 0",
    "train pairs, shard 1",
    "validation pairs, shard 0",
    "test pairs, shard 0",
    "high_fidelity pairs, shard 0",
)
TINY_FOLDER = "results/tiny"


def simulated(*which: str) -> set[str]:
    return {f"simulate tiny: {shard}" for shard in which or SIMULATED}


def run(method: str, *stages: str, observation: str = "y1", seed: int = 0) -> set[str]:
    return {f"{stage} tiny/{observation}: {method}, seed {seed}" for stage in stages}


def all_runs(*stages: str) -> set[str]:
    return {job for method in RUNS for job in run(method, *stages)}


def pretrained(*flows: str) -> set[str]:
    return {f"pretrain tiny: flow {flow}" for flow in flows} | calibrated(*flows)


def calibrated(*flows: str) -> set[str]:
    return {f"calibrate tiny: flow {flow}" for flow in flows}


FIGURES, REPORT = {"figures of tiny"}, {"report"}
OBSERVE, CHECK, REFERENCE = (
    {"observe tiny: y1"},
    {"check the operator of tiny"},
    {"reference posterior of tiny: y1"},
)
SHOWN = FIGURES | REPORT
FOLLOWS = ("finetune", "sample", "evaluate")
FROM_PRETRAINED = run("amortized", *FOLLOWS) | run("preconditioned", *FOLLOWS)
RECALIBRATED = (
    calibrated("coupling", "chint")
    | run("amortized", "evaluate")
    | run("preconditioned", "evaluate")
)
EVERYTHING = (
    simulated()
    | OBSERVE
    | CHECK
    | REFERENCE
    | pretrained("coupling", "chint")
    | all_runs(*FOLLOWS)
    | SHOWN
)


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory) -> Project:
    """The finished experiment with a copy of the package of its own, so that its code can be
    edited.
    """
    project = finished.copied_to(tmp_path_factory.mktemp("made") / "project")
    shutil.copytree(
        Path(pflow.__file__).parent,
        project.folder / "pflow",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return project


@pytest.fixture
def copy(made, tmp_path) -> Project:
    """A copy to change: results with their times, and what Snakemake remembers of them."""
    return made.copied_to(tmp_path / "project")


def planned(project: Project, *arguments: str) -> tuple[set[str], str]:
    done = project.snakemake("-n", *arguments)
    assert done.returncode == 0, done.stdout
    return set(re.findall(r"^Job \d+: (?!all )(.*)$", done.stdout, re.M)), done.stdout


Change = Callable[[dict], None]


def setting(*path: str, value: object) -> Change:
    def change(tiny: dict) -> None:
        entry = tiny
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = value

    return change


METHOD = {
    "flow": "coupling",
    "start": "pretrained",
    "objective": "reverse_kl",
    "evaluations": 64,
    "batch": 32,
}
SETTINGS = {
    "simulate": (
        setting("simulate", "seed", value=1),
        simulated() | pretrained("coupling", "chint") | FROM_PRETRAINED | SHOWN,
    ),
    "simulate, test split": (
        setting("simulate", "test", value=120),
        simulated("test pairs, shard 0") | RECALIBRATED | SHOWN,
    ),
    "pretrain, one flow": (
        setting("flows", "coupling", "pretrain", "epochs", value=1),
        pretrained("coupling") | FROM_PRETRAINED | SHOWN,
    ),
    "pretrain, a flow nobody continues": (
        setting("flows", "chint", "pretrain", "epochs", value=2),
        pretrained("chint") | SHOWN,
    ),
    "finetune, one method": (
        setting("finetune", "preconditioned", "evaluations", value=64),
        run("preconditioned", *FOLLOWS) | SHOWN,
    ),
    "sample": (setting("sample", "draws", value=150), all_runs("sample", "evaluate") | SHOWN),
    "evaluate: the reference": (
        setting("reference", "draws", value=400),
        REFERENCE | all_runs("evaluate") | SHOWN,
    ),
    "evaluate: a rule of the verdict": (
        setting("evaluate", value={"verdict": {"pareto_k": 0.6}}),
        all_runs("evaluate") | SHOWN,
    ),
    "calibrate": (setting("calibrate", value={"draws": 50}), RECALIBRATED | SHOWN),
    "figures: a label": (setting("finetune", "preconditioned", "label", value="warm"), SHOWN),
    "report: the title": (setting("title", value="Another title"), REPORT),
    "problem": (setting("problem", "noise_std", value=0.5), EVERYTHING),
    "new method": (setting("finetune", "another", value=METHOD), run("another", *FOLLOWS) | SHOWN),
    "new seed": (
        setting("seeds", value=[0, 1]),
        {j for m in RUNS for j in run(m, *FOLLOWS, seed=1)} | SHOWN,
    ),
    "new seed of one method": (
        setting("finetune", "preconditioned", "seeds", value=[0, 1]),
        run("preconditioned", *FOLLOWS, seed=1) | SHOWN,
    ),
    "a method at the observation that there is": (
        setting("finetune", "preconditioned", "only", value=["y*"]),
        SHOWN,
    ),
    "new observation": (
        setting("observations", "y2", value={"x_true": [1, 1]}),
        {"observe tiny: y2", "reference posterior of tiny: y2"}
        | {j for m in RUNS for j in run(m, *FOLLOWS, observation="y2")}
        | RECALIBRATED
        | SHOWN,
    ),
    "threads, memory, time": (
        setting("resources", value={"threads": 2, "memory_mb": 900, "runtime_minutes": 7}),
        set(),
    ),
    "processes of a pretraining": (
        setting("flows", "coupling", "pretrain", "devices", value=2),
        set(),
    ),
    "nodes of a pretraining": (setting("flows", "coupling", "pretrain", "nodes", value=2), set()),
    "where a training runs": (setting("resources", value={"gpu_model": "a100"}), set()),
    "calibration of fine-tuning": (
        setting("calibrate", value={"fine_tuned": 2}),
        {f"observe tiny: replicate-{k}" for k in range(2)}
        | {
            job
            for method in TUNED
            for k in range(2)
            for job in run(method, "finetune", observation=f"replicate-{k}")
        }
        | {f"calibrate tiny: method {method}" for method in TUNED}
        | {job for method in TUNED for job in run(method, "evaluate")}
        | SHOWN,
    ),
    "nothing": (lambda tiny: None, set()),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_changed_setting_reruns_exactly(made, tiny, kind):
    change, expected = SETTINGS[kind]
    change(tiny["experiments"]["tiny"])
    made.write(tiny)
    jobs, _ = planned(made)
    made.write(TINY)
    assert jobs == expected


def test_the_plan_names_the_setting_with_its_old_and_its_new_value(made, tiny):
    tiny["experiments"]["tiny"]["finetune"]["preconditioned"]["evaluations"] = 64
    made.write(tiny)
    _, text = planned(made)
    made.write(TINY)
    assert f"settings differ: method.evaluations 96 -> 64: results/tiny/{RUN}/flow" in text


def test_another_results_folder_makes_everything(made, tiny):
    tiny["results"] = "elsewhere"
    made.write(tiny)
    jobs, _ = planned(made)
    made.write(TINY)
    assert jobs == EVERYTHING


# --- outputs deleted or altered -------------------------------------------------------------------


def remove(path: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / path).unlink()

    return spoil


def alter_weights(folder: Path) -> None:
    import torch

    write_weights(folder / "pretrained/coupling/flow.safetensors", {"a": torch.ones(1)}, {})


def alter_observation(folder: Path) -> None:
    arrays, _ = read_arrays(folder / "observations/y1.zarr", ("y", "x_true"))
    write_arrays(folder / "observations/y1.zarr", {**arrays, "y": arrays["y"] + 1}, {})


def same_observation_again(folder: Path) -> None:
    arrays, attributes = read_arrays(folder / "observations/y1.zarr", ("y", "x_true"))
    write_arrays(
        folder / "observations/y1.zarr",
        arrays,
        {k: v for k, v in attributes.items() if k in ("noise_std", "seed")},
    )


RUN = "posteriors/y1/preconditioned/seed-0"


def edit_metrics(folder: Path) -> None:
    file = folder / RUN / "metrics.json"
    file.write_text(file.read_text().replace('"verdict": "', '"verdict": "never '))


FILES = {
    "metrics deleted": (remove(f"{RUN}/metrics.json"), run("preconditioned", "evaluate") | SHOWN),
    "root of a posterior deleted": (
        remove(f"{RUN}/posterior.zarr/zarr.json"),
        run("preconditioned", "sample", "evaluate") | SHOWN,
    ),
    "fine-tuned weights deleted": (
        remove(f"{RUN}/flow.safetensors"),
        run("preconditioned", *FOLLOWS) | SHOWN,
    ),
    "pretrained weights deleted": (
        remove("pretrained/coupling/flow.safetensors"),
        pretrained("coupling") | FROM_PRETRAINED | SHOWN,
    ),
    "calibration deleted": (
        remove("pretrained/coupling/calibration.json"),
        RECALIBRATED - calibrated("chint") | SHOWN,
    ),
    "pairs deleted, perhaps to save space, and no job needs them": (
        lambda folder: shutil.rmtree(folder / "pairs"),
        set(),
    ),
    "pairs and the weights made from them deleted": (
        lambda folder: (
            shutil.rmtree(folder / "pairs/train/shard-1.zarr")
            or shutil.rmtree(folder / "pretrained/coupling")
        ),
        simulated("train pairs, shard 1")
        | pretrained("coupling", "chint")
        | FROM_PRETRAINED
        | SHOWN,
    ),
    "observations deleted, and no job needs them": (
        lambda folder: shutil.rmtree(folder / "observations"),
        set(),
    ),
    "reference deleted": (
        remove("posteriors/y1/reference.zarr/zarr.json"),
        REFERENCE | all_runs("evaluate") | SHOWN,
    ),
    "check of the operator deleted, which fine-tuning waits for": (
        remove("operator.json"),
        CHECK | all_runs(*FOLLOWS) | SHOWN,
    ),
    "figures deleted": (remove("figures/index.json"), SHOWN),
    "a figure deleted": (remove("figures/marginals.png"), SHOWN),
    "metrics edited by hand": (edit_metrics, run("preconditioned", "evaluate") | SHOWN),
    "pretrained weights altered": (alter_weights, pretrained("coupling") | FROM_PRETRAINED | SHOWN),
    "an observation altered": (
        alter_observation,
        OBSERVE | REFERENCE | all_runs(*FOLLOWS) | RECALIBRATED | SHOWN,
    ),
    "an observation written again with the same content": (same_observation_again, set()),
    "a chunk deep inside a store deleted": (lambda folder: chunk(folder).unlink(), set()),
}


def chunk(folder: Path) -> Path:
    return next(
        p for p in sorted((folder / RUN / "posterior.zarr/posterior/x/c").rglob("*")) if p.is_file()
    )


@pytest.mark.parametrize("target", ["all", "tiny"])
def test_a_plan_ends_in_few_words(made, tiny, target):
    """Snakemake prints all that a target asks for: of hundreds of results only the last are asked
    for, and what is missing.
    """
    tiny["results"] = "elsewhere"
    made.write(tiny)
    _, text = planned(made, target)
    made.write(TINY)
    last = text.rpartition("\nJob stats")[0].rpartition("\nJob ")[2]
    assert (
        "Reason: Input files updated by another job" in last
        and "elsewhere/tiny/figures/index.json" in last
    )
    assert len(last) < 300, last


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_file_reruns_exactly(copy, kind):
    spoil, expected = FILES[kind]
    spoil(copy.folder / TINY_FOLDER)
    assert planned(copy)[0] == expected


def test_whoever_reads_an_altered_chunk_says_so(copy):
    """Snakemake cannot see inside a store; the reader can, and names the remedy, which then reruns
    what it should.
    """
    folder = copy.folder / TINY_FOLDER
    damaged = chunk(folder)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (folder / RUN / "metrics.json").unlink()
    done = copy.snakemake("evaluate")
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    assert re.search(
        r"error: \S*posterior\.zarr.*delete \S*posterior\.zarr and run snakemake again", done.stdout
    )
    shutil.rmtree(folder / RUN / "posterior.zarr")
    assert planned(copy)[0] == run("preconditioned", "sample", "evaluate") | SHOWN


def test_a_store_changed_behind_its_root_is_refused(tmp_path):
    """The chunk is a valid one, of other numbers: the content hash in the root tells."""
    write_arrays(tmp_path / "a.zarr", {"y": np.arange(4.0)}, {})
    write_arrays(tmp_path / "b.zarr", {"y": np.ones(4)}, {})
    shutil.rmtree(tmp_path / "a.zarr/y")
    shutil.copytree(tmp_path / "b.zarr/y", tmp_path / "a.zarr/y")
    with pytest.raises(
        pflow.errors.PflowError, match=r"a\.zarr/y was changed after it was written: delete"
    ):
        read_arrays(tmp_path / "a.zarr", ("y",))


# --- without Snakemake's records ------------------------------------------------------------------


@pytest.mark.parametrize(("noise_std", "expected"), [(0.4, set()), (0.8, EVERYTHING)])
def test_another_working_folder_that_shares_the_results(made, tiny, tmp_path, noise_std, expected):
    tiny["experiments"]["tiny"]["problem"]["noise_std"] = noise_std
    tiny["results"] = str(made.folder / "results")
    assert planned(Project(tmp_path / "project", tiny))[0] == expected


def copy_without_times(results: Path) -> None:
    """Also the order of the times is lost."""
    shutil.rmtree(results.parent / ".snakemake")
    files = sorted((file for file in results.rglob("*") if file.is_file()), reverse=True)
    for k, file in enumerate(files):
        os.utime(file, (2e9 + k, 2e9 + k))


def delete_origins(results: Path) -> None:
    """As an earlier version of pflow left its results."""
    for origin in results.rglob(".*.origin"):
        origin.unlink()


def delete_origins_and_records(results: Path) -> None:
    delete_origins(results)
    shutil.rmtree(results.parent / ".snakemake")


RECORDS = {
    "a copy without times": (copy_without_times, set()),
    "results of an earlier version": (delete_origins, set()),
    "results of which nothing says what made them": (delete_origins_and_records, EVERYTHING),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_results_say_what_made_them_or_snakemake_does(copy, kind):
    spoil, expected = RECORDS[kind]
    spoil(copy.folder / "results")
    assert planned(copy)[0] == expected


# --- code -----------------------------------------------------------------------------------------


Edit = Callable[[str], str]


def replace(old: str, new: str) -> Edit:
    return lambda text: text.replace(old, new, 1)


def append(line: str) -> Edit:
    return lambda text: f"{text}\n{line}\n"


def edited(copy: Project, file: str, edit: Edit) -> set[str]:
    path = copy.folder / "pflow" / file
    text = path.read_text()
    path.write_text(edit(text))
    assert path.read_text() != text
    return planned(copy)[0]


TAG = '    tag_value: ClassVar[str] = "reverse_kl"\n'
NEW_KEY = '    patience: int = setting("Steps without progress.", 3, minimum=1)\n'
TUNED_RUNS = {job for method in TUNED for job in run(method, *FOLLOWS)}
CODE = {
    "a comment and a docstring": (
        "training.py",
        lambda text: "# a remark\n" + text.replace('"""The training loop', '"""The loop', 1),
        set(),
    ),
    "a description of a setting": (
        "config/trust.py",
        replace("Draws to store, of all chains together.", "Draws."),
        set(),
    ),
    "a bound of a setting": ("config/trust.py", replace("minimum=50", "minimum=40"), set()),
    "a new key with a default in one kind of method": (
        "config/methods.py",
        replace(TAG, TAG + NEW_KEY),
        TUNED_RUNS | SHOWN,
    ),
    "a new key with a default in another kind of method": (
        "config/methods.py",
        replace(
            TAG.replace("reverse_kl", "score_replay"),
            NEW_KEY + TAG.replace("reverse_kl", "score_replay"),
        ),
        set(),
    ),
    "the default of a threshold of the verdict": (
        "config/trust.py",
        replace('k-hat below.", 0.7', 'k-hat below.", 0.6'),
        all_runs("evaluate") | SHOWN,
    ),
    "a template of the report": ("report/template.html", append("<p>more</p>"), REPORT),
    "the style of the report": ("report/style.css", append("p { color: red; }"), REPORT),
    "the page of the report": (
        "report/columns.py",
        replace("SUMMARY = {", 'SUMMARY = {"seed": ("Seed", "", 1),'),
        REPORT,
    ),
    "a figure": (
        "figures/marginals.py",
        append("print('imported')"),
        SHOWN,
    ),
    "a line of the target": (
        "inference/target.py",
        replace("x = x.detach()", "x = x.detach().clone()"),
        REFERENCE | all_runs(*FOLLOWS) | SHOWN,
    ),
    "a line of the training loop": (
        "training.py",
        replace("SKIPS_IN_A_ROW = ", "SKIPS_IN_A_ROW = 1 + "),
        pretrained("coupling", "chint") | all_runs(*FOLLOWS) | SHOWN,
    ),
    "the problem": (
        "problems/rosenbrock.py",
        replace("DEPTH = ", "DEPTH = 0 + "),
        EVERYTHING,
    ),
    "a problem of other experiments": (
        "problems/traveltime.py",
        replace('name = "traveltime"', 'further = 1\n    name = "traveltime"'),
        set(),
    ),
}


@pytest.mark.parametrize("kind", CODE)
def test_edited_code_reruns_exactly_what_it_can_change(copy, kind):
    file, edit, expected = CODE[kind]
    assert edited(copy, file, edit) == expected


def test_a_job_refuses_code_that_was_edited_after_it_was_planned(copy):
    """Here the report's own rule edits the style just before the job: were that put back later, a
    page in another style would be taken for the planned one.
    """
    style, rule = copy.folder / "pflow/report/style.css", copy.folder / "workflow/rules/results.smk"
    text, call, edit = style.read_text(), "python -m pflow report", copy.folder / "edit.sh"
    edit.write_text("echo >> pflow/report/style.css")
    rule.write_text(rule.read_text().replace(call, f"bash edit.sh && {call}"))
    done = copy.snakemake("report")
    assert done.returncode != 0, done.stdout
    assert re.search(r"pflow was changed after this job was planned .*run snakemake", done.stdout)
    assert not (copy.folder / "results/report.html").exists()
    style.write_text(text)
    edit.write_text("")
    done = copy.snakemake("report")
    assert done.returncode == 0, done.stdout


def test_code_tracking_can_be_switched_off_for_a_pretraining(copy, tiny):
    tiny["experiments"]["tiny"]["flows"]["coupling"]["pretrain"]["track_code"] = False
    copy.write(tiny)
    assert planned(copy)[0] == REPORT
    edit = append("print('imported')")
    assert edited(copy, "objectives/maximum_likelihood.py", edit) == pretrained("chint") | SHOWN
    done = copy.snakemake("--allowed-rules", "write_report", "report")
    assert done.returncode == 0, done.stdout
    page = (copy.folder / "results/report.html").read_text()
    assert "is kept when pflow&#39;s code changes" in page and "coupling" in page
