"""What is out of date, on results whose jobs are stand-ins: the results that are named are exactly
those whose own job has to run; what follows from them is Snakemake's to find.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pflow.pipeline.out_of_date import Comparison, compare
from pflow.pipeline.workflow import Pipeline
from pflow.storage.origins import origin_file, read_origin, write_origin
from tests.support.project import TINY
from tests.support.stand_ins import make_stand_ins

RESULTS = Path("results/tiny")
RUN = RESULTS / "posteriors/y1/preconditioned/seed-0"
MEASURED = "y2.npy"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save(MEASURED, np.array([1.0, 0.5]))
        make_stand_ins(pipeline())
    return folder


@pytest.fixture(autouse=True)
def folder(made, tmp_path, monkeypatch) -> None:
    """A copy to change, with its times."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def configuration() -> dict:
    config = copy.deepcopy(TINY)
    config["experiments"]["tiny"]["observations"]["y2"] = MEASURED
    return config


def pipeline(change: Callable[[dict], object] = lambda e: None) -> Pipeline:
    config = configuration()
    change(config["experiments"]["tiny"])
    return Pipeline(config, Path())


def out_of_date(change: Callable[[dict], object] = lambda e: None) -> Comparison:
    return compare(pipeline(change))


def test_nothing_is_out_of_date_after_it_was_made():
    states = out_of_date()
    assert states.reasons == {} and states.unrecorded == set() and len(states.right) == 34
    assert states.summary() == ""


def test_settings_that_are_too_long_for_a_command_are_compared_by_their_text():
    make_stand_ins(pipeline(lambda e: e.update(notes=["text " * 30_000])))
    assert out_of_date(lambda e: e.update(notes=["text " * 30_000])).reasons == {}
    changed = out_of_date(lambda e: e.update(notes=["text " * 30_001]))
    assert set(changed.reasons) == {"results/report.html"}


def test_another_noise_makes_all_jobs_that_carry_it_out_of_date():
    states = out_of_date(lambda e: e["problem"].update(noise_std=0.8))
    flows = {str(RESULTS / f"pretrained/{flow}/flow.safetensors") for flow in ("coupling", "chint")}
    assert states.right == flows  # their settings are those of the flow; the pairs reach them
    assert "settings differ: problem.noise_std 0.4 -> 0.8: " in states.summary()


def test_a_setting_of_one_method_concerns_its_own_job():
    states = out_of_date(lambda e: e["finetune"]["preconditioned"].update(evaluations=64))
    tuned = {str(RESULTS / f"posteriors/{y}/preconditioned/seed-0") for y in ("y1", "y2")}
    assert states.reasons.keys() == {f"{run}/flow.safetensors" for run in tuned} | {
        "results/report.html"
    }


def test_a_new_observation_is_a_new_input_of_the_calibrations():
    states = out_of_date(lambda e: e["observations"].update(y3={"x_true": [1, 1]}))
    new = "it was made without results/tiny/observations/y3.zarr/zarr.json"
    for flow in ("coupling", "chint"):
        assert states.reasons[str(RESULTS / f"pretrained/{flow}/calibration.json")] == new


def test_an_observation_less_is_an_input_less():
    states = out_of_date(lambda e: e["observations"].pop("y1"))
    reason = states.reasons[str(RESULTS / "pretrained/chint/calibration.json")]
    assert reason == "it was made with ../../observations/y1.zarr/zarr.json"


def test_a_plan_says_a_reason_once_and_not_all_of_many():
    noise = out_of_date(lambda e: e["problem"].update(noise_std=0.8)).summary()
    shard = RESULTS / "pairs/train/shard-0.zarr"
    assert noise.splitlines()[0] == (
        f"out of date: settings differ: problem.noise_std 0.4 -> 0.8: {shard} and 30 more"
    )
    for file in (*RESULTS.rglob("metrics.json"), *RESULTS.rglob("history.csv")):
        file.write_text("by hand")
    lines = out_of_date().summary().splitlines()
    assert len(lines) == 9 and lines[-1] == "out of date: for 6 more reasons"


def test_other_code_is_told():
    main = Path(RUN / "metrics.json")
    write_origin(main, dataclasses.replace(read_origin(main), code="another"))
    assert out_of_date().reasons == {str(main): "the code of its stage differs"}


WEIGHTS = "flow.safetensors"
FILES = {
    RUN / "metrics.json": RUN / "metrics.json",
    RUN / "history.csv": RUN / WEIGHTS,
    RUN / "flow.json": RUN / WEIGHTS,
    RUN / "posterior.zarr/zarr.json": RUN / "posterior.zarr/zarr.json",
    RESULTS / "pretrained/chint/history.csv": RESULTS / "pretrained/chint" / WEIGHTS,
    RESULTS / "pretrained/chint/calibration.zarr/zarr.json": (
        RESULTS / "pretrained/chint/calibration.json"
    ),
    RESULTS / "figures/accuracy.png": RESULTS / "figures/index.json",
    RESULTS / "figures/accuracy.svg": RESULTS / "figures/index.json",
    RESULTS / "operator.json": RESULTS / "operator.json",
}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_an_edited_file_puts_its_job_out_of_date(file):
    file.write_text("by hand")
    result = str(FILES[file])
    assert out_of_date().reasons == {result: f"{file} was changed after it was written"}


@pytest.mark.parametrize("file", [file for file in FILES if file != FILES[file]], ids=str)
def test_a_deleted_file_puts_its_job_out_of_date(file):
    file.unlink()
    assert out_of_date().reasons == {str(FILES[file]): f"{file} was deleted, or cannot be read"}


def test_an_edit_that_is_undone_leaves_nothing_to_do():
    file = RUN / "metrics.json"
    text = file.read_text()
    file.write_text("by hand")
    assert out_of_date().reasons
    file.write_text(text)
    assert out_of_date().reasons == {}


def test_a_measured_observation_counts_by_its_content():
    os.utime(MEASURED, (2e9, 2e9))
    assert out_of_date().reasons == {}
    np.save(MEASURED, np.array([1.0, 0.6]))
    assert out_of_date().reasons == {
        str(RESULTS / "observations/y2.zarr/zarr.json"): f"{MEASURED} has changed"
    }


def test_a_result_that_is_made_again_reaches_those_that_read_it():
    flow = RESULTS / "pretrained/coupling"
    origin = read_origin(flow / WEIGHTS)
    (flow / WEIGHTS).write_text("others")
    state = origin.outputs[WEIGHTS]._replace(
        size=6, mtime_ns=(flow / WEIGHTS).stat().st_mtime_ns, hash="others"
    )
    write_origin(
        flow / WEIGHTS, dataclasses.replace(origin, outputs={**origin.outputs, WEIGHTS: state})
    )
    readers = {str(flow / "calibration.json")} | {
        str(RESULTS / f"posteriors/{y}/{method}/seed-0/flow.safetensors")
        for y in ("y1", "y2")
        for method in ("amortized", "preconditioned")
    }
    reasons = out_of_date().reasons
    assert reasons == dict.fromkeys(readers, f"{flow / WEIGHTS} has changed")


def test_deleted_pairs_count_only_if_other_pairs_would_be_made():
    shutil.rmtree(RESULTS / "pairs")
    assert out_of_date().reasons == {}
    reasons = out_of_date(lambda e: e["simulate"].update(seed=1)).reasons
    flow = reasons[str(RESULTS / "pretrained/coupling/flow.safetensors")]
    assert flow.endswith("which is deleted, was made by other settings or code")


def test_a_result_without_an_origin_is_neither_right_nor_out_of_date():
    origin_file(RUN / "metrics.json").unlink()
    states = out_of_date()
    assert states.reasons == {} and states.unrecorded == {str(RUN / "metrics.json")}
    assert states.summary().startswith("1 results of an earlier version of pflow do not say")
    origin_file(RUN / "metrics.json").write_text("{")
    assert out_of_date().unrecorded == {str(RUN / "metrics.json")}


def test_a_copy_without_times_is_right_and_gets_times_in_the_order_of_the_data(made):
    shutil.rmtree("results")
    for k, file in enumerate(sorted((made / "results").rglob("*"), reverse=True)):
        if file.is_file():
            copied = Path("results", file.relative_to(made / "results"))
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
            os.utime(copied, (1e9 + k, 1e9 + k))
    assert out_of_date().reasons == {}
    report, metrics = Path("results/report.html"), RUN / "metrics.json"
    chain = [RESULTS / "pairs/train/shard-0.zarr/zarr.json", RESULTS / "pretrained/coupling"]
    chain = [chain[0], chain[1] / WEIGHTS, RUN / WEIGHTS, RUN / "posterior.zarr/zarr.json"]
    times = [file.stat().st_mtime_ns for file in (*chain, metrics, report)]
    assert times == sorted(times)


def test_a_second_plan_hashes_nothing_again(monkeypatch):
    for file in Path("results").rglob("*.*"):
        os.utime(file, (2e9, 2e9))
    assert out_of_date().reasons == {}
    monkeypatch.setattr("pflow.pipeline.file_states.file_hash", lambda path: "hashed again")
    assert out_of_date().reasons == {}
