"""What the Snakemake workflow catalogue asks of a workflow with standardised usage."""

from __future__ import annotations

from pathlib import Path

import yaml

from pflow.config.loading import load_configuration

ROOT = Path(__file__).parents[2]


def test_the_three_files_are_there_and_the_usage_has_the_keys_of_the_catalogue():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {
        "conda",
        "apptainer",
        "apptainer+conda",
        "report",
    }
    assert (ROOT / "workflow/Snakefile").is_file()


def test_the_page_on_the_configuration_names_every_file_of_the_folder():
    text = (ROOT / "config/README.md").read_text()
    assert [file.name for file in (ROOT / "config").glob("*.*") if file.name not in text] == [
        "README.md"
    ]


def test_the_configuration_of_a_deployment_is_valid():
    load_configuration(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
