"""`pflow forget` deletes all that was made for a name, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pflow.cli import main
from pflow.execution.lock import JobLock
from pflow.storage.layout import ExperimentFolder, Layout, root_file


def write(path: Path, content: dict | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or {}))


def fill(folder: ExperimentFolder) -> None:
    """Two methods at two observations, one of them with the name of the flow."""
    write(folder.operator)
    write(folder.pretrained("plain").about, {"wall_seconds": 100.0})
    write(folder.pretraining_checkpoint("plain").state)
    write(folder.figure_index)
    for observation in ("y1", "y2"):
        write(root_file(folder.observation(observation)))
        for method in ("plain", "finished"):
            run = folder.run(observation, method, 0)
            write(run.about, {"wall_seconds": 10.0})
            write(run.metrics)
            write(root_file(run.posterior))
            checkpoint = folder.run_checkpoint(observation, method, 0)
            write(root_file(checkpoint.evaluations), {"attributes": {"count": 96}})
            write(checkpoint.choice)
            write(folder.run_log("finetune", observation, method, 0))
            write(folder.run_benchmark("sample", observation, method, 0))
    for method in ("plain", "finished"):
        write(folder.method_calibration(method))


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("results: my results\nexperiments: {}\n")
    layout = Layout(Path("my results"))
    for name in ("tiny", "other"):
        fill(layout.experiment(name))
    return layout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_without_yes_nothing_is_deleted_and_the_cost_is_said(layout, capsys):
    before = files(layout.results)
    assert main(["forget", "tiny"]) == 1
    assert files(layout.results) == before
    printed = capsys.readouterr().out
    assert "5 trainings (140 s) and 384 evaluations" in printed and "--yes" in printed
    assert str(layout.experiment("tiny").operator) in printed


def test_an_experiment_is_forgotten_with_its_evaluations(layout):
    before = files(layout.experiment("other").folder)
    assert main(["forget", "tiny", "--yes"]) == 0
    assert not layout.experiment("tiny").folder.exists()
    assert files(layout.experiment("other").folder) == before


@pytest.mark.parametrize("method", ["plain", "finished"])
def test_a_method_is_forgotten_and_what_others_made_stays(layout, capsys, method):
    """The flow `plain`, its checkpoint and the results kept as `finished` have the same names."""
    folder = layout.experiment("tiny")
    before = files(folder.folder)
    assert main(["forget", "tiny", method, "--yes"]) == 0
    gone = before - files(folder.folder)
    assert len(gone) == 2 * 7 + 1 and all(method in Path(file).as_posix() for file in gone)
    assert folder.pretrained("plain").about.exists()
    assert folder.pretraining_checkpoint("plain").state.exists()
    assert "2 trainings (20 s) and 192 evaluations" in capsys.readouterr().out


def test_a_running_job_is_not_disturbed(layout, capsys):
    before = files(layout.results)
    run = layout.experiment("tiny").run_checkpoint("y2", "plain", 0)
    with JobLock(run.folder / ".state.safetensors.lock"):
        assert main(["forget", "tiny", "finished", "--yes"]) == 1
        assert "must not be running, and process" in capsys.readouterr().err
        assert files(layout.results) - before == {
            "tiny/.checkpoints/y2/plain/seed-0/.state.safetensors.lock"
        }
    assert main(["forget", "tiny", "--yes"]) == 0


def test_the_lock_of_a_job_that_was_killed_is_no_matter(layout):
    lock = JobLock(layout.experiment("tiny").folder / ".operator.json.lock")
    lock.__enter__()
    owner = json.loads(lock.path.read_text())
    lock.__exit__()
    lock.path.write_text(json.dumps({**owner, "pid": 2**22 + 1}))
    assert main(["forget", "tiny", "--yes"]) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none"], "`none` must be an experiment in my results: there is other, tiny"),
        ([".."], "`..` must be an experiment in my results"),
        (["tiny", "none"], "must be a method of `tiny` with results: there is finished, plain"),
        (["tiny", "*"], "must be a method of `tiny`"),
        (["tiny", "--configuration", "absent.yaml"], "absent.yaml is not there"),
    ],
)
def test_a_wrong_name_deletes_nothing(layout, capsys, words, expected):
    before = files(layout.results)
    assert main(["forget", *words, "--yes"]) == 1
    assert expected in capsys.readouterr().err and files(layout.results) == before


def test_what_lies_behind_a_link_stays_and_is_not_found_again(layout, tmp_path):
    folder = layout.experiment("tiny").folder
    elsewhere = tmp_path / "scratch"
    (folder / ".checkpoints").rename(elsewhere)
    (folder / ".checkpoints").symlink_to(elsewhere)
    assert main(["forget", "tiny", "--yes"]) == 0
    assert not folder.exists() and elsewhere.is_dir()
