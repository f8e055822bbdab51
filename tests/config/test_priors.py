"""The setting `prior`: the experiment's or the method's own, which file it is read from, and
mistakes in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.pipeline.stages import settings_for
from pflow.pipeline.workflow import Pipeline

PRIOR = {"name": "coupling", "conditional": False}


def configuration(tmp_path, **changes) -> dict:
    experiment = {
        "problem": {"name": "seismic", "height": 16, "width": 16},
        "prior": {"name": "flow", "flow": "prior"},
        "observations": {"deep": {"seed": 1}},
        "flows": {"coupling": {"name": "coupling"}, "prior": PRIOR},
        "finetune": {
            "amortized": {"flow": "coupling", "objective": "none"},
            "paper": {
                "flow": "coupling",
                "objective": "reverse_kl",
                "start": "pretrained",
                "evaluations": 64,
                "prior": {"name": "lowfi_posterior"},
            },
            "gaussian": {
                "flow": "coupling",
                "objective": "reverse_kl",
                "start": "random",
                "evaluations": 64,
                "prior": {"name": "gaussian"},
            },
        },
        "reference": {"kind": "gaussian"},
    }
    return {"results": str(tmp_path), "experiments": {"seismic": experiment | changes}}


def reference_prior(pipeline: Pipeline) -> list[str]:
    wildcards = SimpleNamespace(experiment="seismic", observation="y1")
    return pipeline.inputs_of("reference", wildcards)["prior"]


def prior_files(pipeline: Pipeline, method: str) -> list[str]:
    found = pipeline.prior_file(
        SimpleNamespace(experiment="seismic", method=method, observation="deep", seed="0")
    )
    return [path.removeprefix(f"{pipeline.layout.results}/seismic/") for path in found]


def test_each_method_reads_its_prior_from_one_file(tmp_path):
    pipeline = Pipeline(configuration(tmp_path), tmp_path)
    assert prior_files(pipeline, "amortized") == ["pretrained/prior/flow.safetensors"]
    assert prior_files(pipeline, "paper") == ["pretrained/coupling/flow.safetensors"]
    assert prior_files(pipeline, "gaussian") == ["prior/spectrum.zarr/zarr.json"]
    assert reference_prior(pipeline) == pipeline.files("seismic").spectrum()


def test_fine_tuning_starts_from_the_weights_of_the_prior(tmp_path):
    """They need not see the data, because they are fitted to one observation."""
    methods = configuration(tmp_path)["experiments"]["seismic"]["finetune"]
    methods["surrogate"] = {
        "flow": "prior",
        "start": "pretrained",
        "objective": "surrogate",
        "evaluations": 64,
    }
    pipeline = Pipeline(configuration(tmp_path, finetune=methods), tmp_path)
    wildcards = SimpleNamespace(
        experiment="seismic", method="surrogate", observation="deep", seed="0"
    )
    start = pipeline.start_weights(wildcards)
    assert [Path(file).relative_to(tmp_path / "seismic").as_posix() for file in start] == [
        "pretrained/prior/flow.safetensors"
    ]


def test_a_problem_with_its_own_density_reads_none(tmp_path):
    plain = configuration(tmp_path, prior={"name": "problem"}, reference={"kind": "none"})
    assert prior_files(Pipeline(plain, tmp_path), "amortized") == []
    assert reference_prior(Pipeline(plain, tmp_path)) == []


def test_the_prior_is_part_of_what_a_job_depends_on(tmp_path):
    loaded = load_configuration(configuration(tmp_path))
    for stage in ("finetune", "sample", "evaluate"):
        priors = {
            m: json.loads(
                settings_for(loaded, stage, "seismic", observation="deep", method=m, seed="0")
            )["prior"]["name"]
            for m in ("amortized", "paper", "gaussian")
        }
        assert priors == {"amortized": "flow", "paper": "lowfi_posterior", "gaussian": "gaussian"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prior": {"name": "flow", "flow": "coupling"}},
            (
                r"prior.flow` \(='coupling'\) must name an entry of .* with `conditional: false`,"
                r" which are: prior"
            ),
        ),
        (
            {"finetune": {"amortized": {"flow": "prior", "objective": "none"}}},
            r"finetune.amortized.flow` \(='prior'\) must see the data",
        ),
        (
            {
                "problem": {"name": "rosenbrock"},
                "prior": {"name": "gaussian"},
                "flows": {"coupling": {"name": "coupling"}},
            },
            r"prior` \(gaussian\) is for images",
        ),
        ({"prior": {"name": "gausian"}}, "did you mean `gaussian`"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(PflowError, match=message):
        load_configuration(configuration(tmp_path, **changes))


def test_images_of_the_users_own_are_inputs_of_pairs_and_observations(tmp_path):
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).normal(size=(40, 128, 256)))
    problem = {
        "name": "seismic",
        "height": 16,
        "width": 16,
        "images": str(tmp_path / "stack.npy"),
        "training_rows": [0, 64],
        "target_rows": [64, 128],
    }
    simulate = {"train": 64, "validation": 8, "test": 50}
    changed = configuration(tmp_path, problem=problem, simulate=simulate)
    pipeline = Pipeline(changed, tmp_path)
    wildcards = SimpleNamespace(experiment="seismic", observation="deep", split="train", shard="0")
    for stage in ("simulate", "observe"):
        data = pipeline.inputs_of(stage, wildcards)["data"]
        assert data == [str(tmp_path / "stack.npy")]
