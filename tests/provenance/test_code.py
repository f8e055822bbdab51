"""The fingerprint follows what code does: edits change it where they can change a result, and
nowhere else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import pflow
from pflow.config.loading import load_configuration
from pflow.finetuning.target import TARGET_CODE
from pflow.pipeline.stages import STAGES, settings_for
from pflow.provenance import code as fingerprint
from pflow.provenance import modules
from tests.support.imported import imported_by
from tests.support.project import TINY

PACKAGE = Path(pflow.__file__).parent
RUN = {"observation": "y1", "method": "preconditioned", "seed": "0"}
WILDCARDS = {
    "simulate": {"split": "train", "shard": "0"},
    "observe": {"observation": "y1"},
    "reference": {"observation": "y1"},
    "pretrain": {"flow": "coupling"},
    "calibrate": {"flow": "coupling"},
    "calibrate_method": {"method": "preconditioned"},
    "finetune": RUN,
    "sample": RUN,
    "evaluate": RUN,
}


def settings_of(stage: str) -> str:
    configuration = load_configuration(TINY)
    if stage == "report":
        return settings_for(configuration, stage)
    return settings_for(configuration, stage, "tiny", **WILDCARDS.get(stage, {}))


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package, with what was read in it."""
    root = tmp_path_factory.mktemp("package") / "pflow"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(modules, "ROOT", root)
        fingerprint.forget_code()
        for stage in STAGES:
            fingerprint.code_fingerprint(stage)
    fingerprint.forget_code()
    return root


@pytest.fixture
def copied(package, tmp_path, monkeypatch):
    """A copy of the package that the fingerprint reads, to edit at will."""
    root = tmp_path / "pflow"
    shutil.copytree(package, root)
    monkeypatch.setattr(modules, "ROOT", root)
    settings = {stage: settings_of(stage) for stage in STAGES}

    def prints() -> dict[str, str]:
        fingerprint.forget_code()
        return {stage: fingerprint.code_fingerprint(stage, settings[stage]) for stage in STAGES}

    yield root, prints
    fingerprint.forget_code()


Edit = Callable[[str], str]


def changed_stages(copied, file: str, edit: Edit) -> set[str]:
    root, prints = copied
    before = prints()
    path = root / file
    text = path.read_text()
    path.write_text(edit(text))
    assert path.read_text() != text
    after = prints()
    return {stage for stage in STAGES if before[stage] != after[stage]}


def replace(old: str, new: str) -> Edit:
    return lambda text: text.replace(old, new, 1)


def append(line: str) -> Edit:
    return lambda text: f"{text}\n{line}\n"


TAG = '    tag_value: ClassVar[str] = "reverse_kl"\n'
NEW_KEY = '    patience: int = setting("A new one.", 3, minimum=1)\n'
EDITS = {
    "a comment": ("training.py", append("# a remark"), set()),
    "a docstring": ("training.py", replace('"""The training loop', '"""The loop'), set()),
    "a version number": ("__init__.py", replace('__version__ = "', '__version__ = "1'), set()),
    "an annotation": ("training.py", replace("flow: Flow,", "flow: object,"), set()),
    "a line of the training loop": (
        "training.py",
        replace("SKIPS_IN_A_ROW = ", "SKIPS_IN_A_ROW = 1 + "),
        {"pretrain", "finetune"},
    ),
    "a definition that nobody uses": ("training.py", append("UNUSED = 1"), set()),
    "a statement that runs with the module": (
        "training.py",
        append("print('imported')"),
        {"pretrain", "finetune"},
    ),
    "the page": ("report/columns.py", replace("SUMMARY = {", 'SUMMARY = {"a": 1,'), {"report"}),
    "a template": ("report/template.html", append("<p>more</p>"), {"report"}),
    "the style of the page": ("report/style.css", append("p { color: red; }"), {"report"}),
    "the script of the page": ("report/script.js", append("alert(1);"), {"report"}),
    "a description": (
        "config/trust.py",
        replace("Draws to store, of all chains together.", "Draws."),
        set(),
    ),
    "the description of a settings class": (
        "config/trust.py",
        replace("Accuracy, cost and verdict of each", "Verdict of each"),
        set(),
    ),
    "a bound": ("config/trust.py", replace("minimum=50", "minimum=40"), set()),
    "a default, which settings texts carry": (
        "config/trust.py",
        replace('k-hat below.", 0.7', 'k-hat below.", 0.6'),
        set(),
    ),
    "a new key of a method, which settings texts carry": (
        "config/methods.py",
        replace(TAG, f"{TAG}{NEW_KEY}"),
        set(),
    ),
    "a new method": (
        "config/methods.py",
        replace("MethodSettings = Union[", "MethodSettings = Union[\n    FinetuningSettings,"),
        set(),
    ),
    "a rule of the verdict": (
        "diagnostics/evidence.py",
        replace("REMARK = -1", "REMARK = -2"),
        {"evaluate"},
    ),
    "a line of the target": (
        "inference/target.py",
        replace("x = x.detach()", "x = x.detach().clone()"),
        {"reference", "finetune", "sample"},
    ),
    "the problem": (
        "problems/rosenbrock.py",
        replace("DEPTH = ", "DEPTH = 1 + "),
        {*STAGES} - {"spectrum", "pretrain", "figures", "report"},
    ),
    "a problem of other experiments": (
        "problems/traveltime.py",
        replace("class TravelTime(", "EXTRA = 1\n\n\nclass TravelTime("),
        set(),
    ),
    "the class of another problem": (
        "problems/traveltime.py",
        replace('name = "traveltime"', 'further = 1\n    name = "traveltime"'),
        set(),
    ),
    "a flow": (
        "flows/coupling.py",
        replace("NETWORKS = ", "NETWORKS = 1 and "),
        {"pretrain", "calibrate", "calibrate_method", "finetune", "sample", "evaluate"},
    ),
    "how a user's problem is read": (
        "config/user_problems.py",
        replace('RESERVED = ("module"', 'RESERVED = ("more", "module"'),
        set(),
    ),
    "how the signatures of problems are read": (
        "config/signature.py",
        replace("SCALARS = {", 'SCALARS = {"integer": int, '),
        set(),
    ),
    "what the settings of problems have in common": (
        "config/problems.py",
        replace("return given_arguments(self)", "return {**given_arguments(self)}"),
        {*STAGES} - {"spectrum", "pretrain"},
    ),
    "what is recorded about a result": (
        "provenance/record.py",
        replace('"stage": stage,', '"stage": stage, "more": 1,'),
        set(),
    ),
    "the choice of a method that this one is not": (
        "finetuning/automatic.py",
        replace("EVALUATIONS_SAVED = 50", "EVALUATIONS_SAVED = 60"),
        set(),
    ),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_changes_the_stages_whose_results_it_can_change(copied, kind):
    file, edit, expected = EDITS[kind]
    assert changed_stages(copied, file, edit) == expected


def test_defaults_count_where_a_job_builds_settings_itself(copied):
    """`auto` builds the settings of the method that it chooses."""
    root, _ = copied
    method = {"objective": "auto", "flow": "coupling", "start": "pretrained", "evaluations": 100}
    tiny = {**TINY["experiments"]["tiny"], "finetune": {"a": method}}
    text = settings_for(
        load_configuration({"experiments": {"tiny": tiny}}),
        "finetune",
        "tiny",
        **{**RUN, "method": "a"},
    )
    for file, old, new in (
        ("config/methods.py", '"Adam\'s step size.", 1e-3', '"Adam\'s step size.", 2e-3'),
        ("finetuning/automatic.py", "EVALUATIONS_SAVED = 50", "EVALUATIONS_SAVED = 60"),
    ):
        before = fingerprint.code_fingerprint("finetune", text)
        path = root / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        fingerprint.forget_code()
        assert fingerprint.code_fingerprint("finetune", text) != before


@pytest.mark.parametrize(
    ("file", "edit", "changes"),
    [
        ("inference/target.py", replace("log_prior).sum()", "log_prior).sum() * 3"), True),
        ("problems/noise/independent.py", replace("return ", "return 2 * "), True),
        ("problems/rosenbrock.py", replace("DEPTH = ", "DEPTH = 1 + "), True),
        ("objectives/reverse_kl.py", append("print('imported')"), False),
        ("finetuning/objectives.py", replace("2e-3", "3e-3"), False),
        ("finetuning/accuracy_monitor.py", replace("FIRST_MARK = 32", "FIRST_MARK = 64"), False),
        ("problems/traveltime.py", replace('name = "traveltime"', 'name = "other"'), False),
    ],
)
def test_evaluations_belong_to_the_code_of_the_target_alone(copied, file, edit, changes):
    root, _ = copied
    problem = json.dumps({"problem": TINY["experiments"]["tiny"]["problem"]})
    fingerprint.forget_code()
    before = fingerprint.entry_fingerprint(*TARGET_CODE, settings=problem)
    text = (root / file).read_text()
    (root / file).write_text(edit(text))
    assert (root / file).read_text() != text
    fingerprint.forget_code()
    assert (fingerprint.entry_fingerprint(*TARGET_CODE, settings=problem) != before) == changes


def test_a_definition_that_moves_to_another_module_changes_nothing(copied):
    root, prints = copied
    before = prints()
    path = root / "training.py"
    line = next(x for x in path.read_text().splitlines() if x.startswith("SKIPS_IN_A_ROW = "))
    (root / "limits.py").write_text(f"{line}\n")
    path.write_text(path.read_text().replace(line, "from pflow.limits import SKIPS_IN_A_ROW"))
    assert prints() == before


def test_reverting_an_edit_reverts_the_fingerprint(copied):
    root, prints = copied
    before, path = prints(), root / "problems" / "rosenbrock.py"
    text = path.read_text()
    path.write_text(text + "\nprint(1)\n")
    assert prints() != before
    path.write_text(text)
    assert prints() == before


def test_a_file_that_is_not_python_is_named(copied):
    root, prints = copied
    (root / "training.py").write_text("def train(:\n")
    with pytest.raises(pflow.errors.PflowError, match=r"training\.py, line 1"):
        prints()


def test_neither_torch_nor_matplotlib_is_imported_to_plan():
    names = imported_by("import pflow.pipeline.workflow, pflow.cli")
    assert not names & {"torch", "matplotlib", "xarray", "zarr"}


def other_definitions(content: bytes) -> bytes:
    """What was read, with other letters: JSON still, and wrong."""
    return content.replace(b"training", b"draining").replace(b"pretrain", b"retrains")


DAMAGES = {
    "JSON without its checksum": lambda content: b'{"a": [[]]}',
    "cut short": lambda content: content[: len(content) // 2],
    "other definitions": other_definitions,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_read_is_kept_and_a_plan_without_it_is_the_same(copied, damage):
    root, prints = copied
    first = prints()
    (kept,) = (root / "__pycache__").glob("fingerprint.*.json")
    content = kept.read_bytes()
    kept.write_bytes(DAMAGES[damage](content))
    assert prints() == first and len(kept.read_bytes()) == len(content)


def test_what_was_read_cannot_be_kept_and_nothing_is_lost(copied):
    root, prints = copied
    first = prints()
    shutil.rmtree(root / "__pycache__")
    (root / "__pycache__").write_text("a file in its place")
    assert prints() == first


def test_a_second_look_parses_nothing(copied, monkeypatch):
    _, prints = copied
    first = prints()
    monkeypatch.setattr(modules, "read_module", lambda *_: pytest.fail("parsed again"))
    assert prints() == first
