"""NUTS finds known posteriors, says what it cost, and is refused where it did not converge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pflow.config.trust import ReferenceSettings
from pflow.diagnostics.two_sample import two_sample
from pflow.errors import PflowError
from pflow.inference.nuts import Chains, convergence, run_nuts
from pflow.inference.target import Target
from pflow.operators import Operator
from pflow.problems import Gaussian, Rosenbrock
from pflow.stages.reference import require_convergence
from pflow.storage.kept_points import KeptPoints

FOUND = {"r_hat": 1.003, "ess_bulk": 900.0, "ess_tail": 800.0, "divergent_fraction": 0.0}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "problem", [Rosenbrock(), Gaussian(side=3)], ids=lambda problem: problem.name
)
def test_chains_agree_with_the_exact_posterior(problem):
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    _, y = problem.simulate(1, generator, "high", torch.float64)
    target = Target(problem, y)
    progress: list[tuple[int, int]] = []
    start = problem.sample_prior(50, generator, torch.float64).numpy()
    chains = run_nuts(
        target,
        draws=500,
        tune=300,
        chains=4,
        seed=1,
        start=start,
        tell=lambda *steps: progress.append(steps),
    )
    assert [steps for steps, _ in progress] == list(range(1, 3201)) and {
        total for _, total in progress
    } == {3200}
    exact = problem.exact_posterior(y)
    found = convergence(chains)
    require_convergence(
        found,
        ReferenceSettings(
            kind="nuts", largest_r_hat=1.03, smallest_ess=300, largest_divergent=0.01
        ),
        "reference",
    )
    distances = two_sample(chains.x.reshape(2000, -1), exact.sample(4000, generator))
    assert distances["c2st"] < 0.55 and distances["quantile_error_posterior_std"] < 0.12
    np.testing.assert_allclose(
        chains.x.reshape(2000, -1).mean(0), exact.mean, atol=0.25 * float(exact.std.max())
    )
    x = torch.from_numpy(chains.x[0])
    expected = problem.log_likelihood(y, problem.high_fidelity(x)) + problem.log_prior(x)
    np.testing.assert_allclose(chains.lp[0], expected, rtol=1e-9)
    assert target.ledger.evaluations > 4 * 800  # at least one for each step
    assert len(target.store) == 0  # the points of long chains in many parameters fill the memory


class Fragile(Gaussian):
    """Fails in one of three ways wherever |x| exceeds `limit`."""

    def __init__(self, failure: str, limit: float) -> None:
        super().__init__(side=2)
        original = self.high_fidelity

        class Breaks(Operator):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if float(x.detach().norm()) <= limit:
                    return original(x)
                if failure == "exception":
                    raise RuntimeError("no convergence")
                return original(x) * {"nan": math.nan, "infinity": math.inf}[failure]

        self.high_fidelity = Breaks(original.model_shape, original.data_shape)


def chains_of(problem: Gaussian) -> Chains:
    y = Gaussian(side=2).simulate(1, torch.Generator().manual_seed(0), "high", torch.float64)[1]
    return run_nuts(Target(problem, y), draws=60, tune=60, chains=2, seed=1, start=np.zeros((1, 4)))


@pytest.mark.long
@pytest.mark.parametrize("failure", ["exception", "nan", "infinity"])
def test_points_where_the_operator_fails_are_rejected_and_counted(failure: str):
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    chains = chains_of(Fragile(failure, 2.5))
    assert chains.rejected > 0 and np.isfinite(chains.x).all()
    assert (np.linalg.norm(chains.x, axis=-1) <= 2.5).all()
    assert ("no convergence" if failure == "exception" else "NaN") in chains.first_failure
    sound = chains_of(Gaussian(side=2))
    assert sound.rejected == 0 and sound.first_failure == ""
    np.testing.assert_array_equal(chains_of(Fragile(failure, 1e9)).x, sound.x)


def test_an_operator_that_fails_everywhere_stops_with_its_own_words():
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    with pytest.raises(PflowError, match="the first because of RuntimeError: no convergence"):
        chains_of(Fragile("exception", -1.0))


def test_convergence_sees_chains_that_disagree():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4, 500, 2))
    good = convergence(Chains(x, x[..., 0], 0, x[..., 0]))
    assert good["r_hat"] < 1.01 and good["ess_bulk"] > 1500
    x[3, :, 1] += 3
    bad = convergence(Chains(x, x[..., 0], 4, x[..., 0]))
    assert bad["r_hat"] > 1.2 and bad["ess_bulk"] < 100 and bad["divergent_fraction"] == 0.002


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"r_hat": 1.3}, "R-hat (=1.300)"),
        ({"ess_bulk": 12.0}, "ess_bulk (=12)"),
        ({"ess_tail": 9.0}, "ess_tail (=9)"),
        ({"divergent_fraction": 0.1}, "divergent"),
    ],
)
def test_each_rule_refuses(change, word):
    require_convergence(FOUND, ReferenceSettings(), "reference")
    with pytest.raises(PflowError, match="refused as a reference") as caught:
        require_convergence(FOUND | change, ReferenceSettings(), "experiments.a.reference")
    assert word in str(caught.value) and "experiments.a.reference.kind: none" in str(caught.value)


def test_without_nutpie_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nutpie", None)
    problem = Rosenbrock()
    with pytest.raises(PflowError, match=r"pip install nutpie"):
        run_nuts(
            Target(problem, torch.zeros(1, 2)),
            draws=10,
            tune=50,
            chains=2,
            seed=0,
            start=np.zeros((1, 2)),
        )


def short_chains(processes: int, kept: KeptPoints | None = None, calls: list | None = None):
    """Two short chains, and the evaluations that they count; `calls` gets each call of the
    operator in this process.
    """
    problem = Gaussian(side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(0), "high", torch.float64)[1]
    if calls is not None:
        original = problem.high_fidelity

        class Counted(Operator):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                calls.append(x)
                return original(x)

        problem.high_fidelity = Counted(original.model_shape, original.data_shape)
    target = Target(problem, y)
    chains = run_nuts(
        target,
        draws=20,
        tune=20,
        chains=2,
        seed=1,
        start=np.zeros((1, 4)),
        processes=processes,
        kept=kept,
    )
    return chains, target.ledger.evaluations


def test_parallel_chains_equal_those_that_run_one_after_the_other():
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    (alone, cost), (together, cost_together) = short_chains(1), short_chains(2)
    np.testing.assert_array_equal(together.x, alone.x)
    np.testing.assert_array_equal(together.evaluations, alone.evaluations)
    assert cost_together == cost > 80


def test_killed_chains_continue_without_a_repeated_evaluation(tmp_path):
    pytest.importorskip("nutpie", reason="optional extra `reference`", exc_type=ImportError)
    file = tmp_path / "points"
    calls: list[torch.Tensor] = []

    def run(identity: str) -> tuple[Chains, int, int]:
        calls.clear()
        kept = KeptPoints(file, identity, 4)
        chains, cost = short_chains(1, kept, calls)
        kept.close()
        return chains, cost, len(calls)

    whole, cost, asked = run("a")
    content = file.read_bytes()
    file.write_bytes(content[: 2 * len(content) // 3])  # as a kill leaves it, inside a row
    again, cost_again, asked_again = run("a")
    np.testing.assert_array_equal(again.x, whole.x)
    assert cost_again == cost and 0.3 * asked < asked_again < 0.4 * asked
    assert run("a")[2] == 0, "all is known"
    assert run("other settings")[2] == asked
