"""A result that was complete when its job was killed is used by the same job, and by no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pflow.execution.finished import forget_finished, keep_finished, restore_finished
from pflow.provenance.record import identity
from pflow.storage.layout import FLOW_FILES
from pflow.storage.origins import file_hash

RECORD = {
    "stage": "pretrain",
    "code_fingerprint": "c",
    "settings_hash": "s",
    "inputs": {"pairs": "p"},
}


def write_result(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flow.safetensors").write_bytes(b"weights")
    (folder / "history.csv").write_text("step\n0\n")
    (folder / "flow.json").write_text(
        json.dumps({**RECORD, "weights_hash": file_hash(folder / "flow.safetensors")})
    )
    return folder


def remove_outputs(folder: Path) -> None:
    """As Snakemake does before it runs a job again."""
    for name in FLOW_FILES:
        (folder / name).unlink()


@pytest.fixture
def places(tmp_path, monkeypatch) -> tuple[Path, Path]:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return (
        write_result(tmp_path / "results/tiny/pretrained/flow"),
        tmp_path / "results/tiny/.checkpoints/pretrained/flow/state.safetensors",
    )


def test_the_same_job_takes_its_result_back(places):
    out, checkpoint = places
    keep_finished(out, checkpoint)
    before = {name: (out / name).read_bytes() for name in FLOW_FILES}
    remove_outputs(out)
    assert restore_finished(out, checkpoint, identity(RECORD))
    assert {name: (out / name).read_bytes() for name in FLOW_FILES} == before
    remove_outputs(out)
    assert restore_finished(out, checkpoint, identity(RECORD)), "a controller may be killed twice"


def test_another_job_does_not_and_the_result_is_forgotten(places):
    out, checkpoint = places
    keep_finished(out, checkpoint)
    remove_outputs(out)
    assert not restore_finished(out, checkpoint, identity(RECORD | {"settings_hash": "t"}))
    assert not restore_finished(out, checkpoint, identity(RECORD))
    assert not list(out.iterdir())


def test_damaged_weights_do_not_come_back(places):
    """A hard link shares its bytes: what was overwritten in place is overwritten in both."""
    out, checkpoint = places
    keep_finished(out, checkpoint)
    (out / "flow.safetensors").write_bytes(b"other weights")
    remove_outputs(out)
    assert not restore_finished(out, checkpoint, identity(RECORD))


def test_nothing_is_kept_outside_a_slurm_job_or_after_a_workflow_that_ended_well(
    places, monkeypatch
):
    out, checkpoint = places
    keep_finished(out, checkpoint)
    forget_finished(out.parents[2])
    assert not checkpoint.parents[1].exists()
    monkeypatch.delenv("SLURM_JOB_ID")
    keep_finished(out, checkpoint)
    assert not checkpoint.parent.exists() and not restore_finished(
        out, checkpoint, identity(RECORD)
    )
