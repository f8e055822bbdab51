"""The reason of a failed job is one line, found in its log."""

from __future__ import annotations

import pytest

from pflow.pipeline.failures import first_useful_line, summary_of_failures

TRACEBACK = """$ python -m pflow simulate
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    raise ValueError("error: inside")
torch.OutOfMemoryError: CUDA out of memory.
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "$ python -m pflow pretrain\npretrain:  40%\nerror: `depth` (=0) must be at least 1\n",
            "error: `depth` (=0) must be at least 1",
        ),
        (TRACEBACK, "torch.OutOfMemoryError: CUDA out of memory."),
        (
            "pretrain:  40%\ninterrupted: stopped after step 7; the state is saved\n",
            "interrupted: stopped after step 7; the state is saved",
        ),
        ("bash: line 1: 77 Killed python\n", "bash: line 1: 77 Killed python"),
        ("pretrain:  40%\n", ""),
    ],
)
def test_the_first_useful_line(tmp_path, text, expected):
    (tmp_path / "log").write_text(text)
    assert first_useful_line(tmp_path / "log") == expected


def test_each_failed_job_of_a_run_has_its_line(tmp_path):
    (tmp_path / "a.log").write_text("error: no room\n")
    (tmp_path / "b.log").write_text("pretrain:  40%\n")
    blocks = [
        f"[Mon]\nError in rule r:\n    jobid: 1\n    log: {tmp_path / name} (check log file(s) for"
        " error details)\n"
        for name in ("a.log", "b.log")
    ]
    blocks[1] = blocks[1].replace(
        "jobid: 1", "message: SLURM-job '12' failed, SLURM status is: 'TIMEOUT'. For further"
    )
    (tmp_path / "run.log").write_text(
        f"Building DAG\n{blocks[0]}[Mon]\nFinished jobid: 3\n{blocks[1]}"
    )
    lines = summary_of_failures([tmp_path / "run.log", tmp_path / "absent.log"]).splitlines()
    assert lines == [
        f"{tmp_path}/a.log: error: no room",
        f"{tmp_path}/b.log: SLURM-job '12' failed, SLURM status is: 'TIMEOUT'",
    ]
    assert summary_of_failures([]) == ""


def test_a_batch_names_each_observation_that_failed(tmp_path):
    log = tmp_path / "batch.log"
    log.write_text(
        "failed: logs/observe/y4.log: error: y4.npy: `y` must be finite\n"
        "failed: logs/evaluate/y1.log: ValueError: no room\n"
        "error: 2 of 9 observations have failed, and the others are complete\n"
    )
    run = tmp_path / "run.log"
    block = f"    log: {log} (check log file(s) for error details)\n"
    run.write_text(f"[Mon]\nError in rule run_batch:\n    jobid: 1\n{block}")
    assert summary_of_failures([run]).splitlines() == [
        "logs/observe/y4.log: error: y4.npy: `y` must be finite",
        "logs/evaluate/y1.log: ValueError: no room",
    ]
