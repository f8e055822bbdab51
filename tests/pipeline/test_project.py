"""`python -m pflow new` writes files that are right as they are; `run` says what it needs."""

from __future__ import annotations

import runpy
import sys

import pytest
import yaml

from pflow.cli import main
from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.pipeline import project
from pflow.problems.user_module import load_problem


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as pytest does for a test's folder
    yield tmp_path
    sys.modules.pop("water_level", None)


def test_what_new_writes_is_a_valid_experiment_with_a_passing_test(folder, capsys):
    assert main(["new", "water_level"]) == 0
    assert "python -m pflow run water_level.yaml" in capsys.readouterr().out
    experiment = load_configuration(
        yaml.safe_load((folder / "water_level.yaml").read_text())
    ).experiments["water_level"]
    problem = load_problem(
        experiment.problem.module, experiment.problem.name, experiment.problem.settings
    )
    assert type(problem).__name__ == "WaterLevel" and problem.noise_std == 0.05
    tests = {
        name: test
        for name, test in runpy.run_path("test_water_level.py").items()
        if name.startswith("test_")
    }
    assert len(tests) == 2
    for test in tests.values():
        test()


def test_the_test_that_new_writes_finds_a_density_that_is_not_the_draws(folder):
    project.new("water_level", folder)
    path = folder / "water_level.py"
    path.write_text(path.read_text().replace("-0.5 * (x / 0.5)", "-0.5 * (x / 0.6)"))
    with pytest.raises(AssertionError, match="log_prior is not the density"):
        runpy.run_path(str(folder / "test_water_level.py"))[
            "test_the_prior_density_belongs_to_its_draws"
        ]()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my problem", "use letters, digits"),
        ("../up", "use letters, digits"),
        ("json", "that of a Python module"),
    ],
)
def test_names_that_cannot_be_files_or_modules(folder, name, expected):
    with pytest.raises(PflowError, match=expected):
        project.new(name, folder)
    assert not list(folder.iterdir())


def test_nothing_is_overwritten(folder):
    (folder / "water_level.yaml").write_text("mine")
    with pytest.raises(PflowError, match="water_level.yaml in .* would be overwritten"):
        project.new("water_level", folder)
    assert (folder / "water_level.yaml").read_text() == "mine" and len(list(folder.iterdir())) == 1


def test_run_says_what_it_needs(folder, capsys, monkeypatch):
    assert main(["run", "gone.yaml"]) == 1 and "gone.yaml is not there" in capsys.readouterr().err
    (folder / "bad.yaml").write_text("a: [\n")
    assert main(["run", "bad.yaml"]) == 1 and "not valid YAML" in capsys.readouterr().err
    (folder / "good.yaml").write_text("a: 1\n")
    monkeypatch.setattr(project, "PACKAGE", folder / "pflow")
    assert main(["run", "good.yaml"]) == 1 and "install pflow again" in capsys.readouterr().err


def test_a_target_after_the_file_is_a_target(folder, monkeypatch):
    snakemake_cli = pytest.importorskip("snakemake.cli")
    commands = []
    monkeypatch.setattr(project, "run_controlled", lambda command: commands.append(command) or 0)
    project.new("water_level", folder)
    assert main(["run", "water_level.yaml", "pretrain", "-n"]) == 0
    _, options = snakemake_cli.parse_args(commands[0][3:])
    assert options.targets == {"pretrain"} or list(options.targets) == ["pretrain"]
    assert [str(file) for file in options.configfile] == ["water_level.yaml"]
    assert options.config == ["alone=true"] and options.dryrun
