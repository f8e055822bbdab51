"""The training loop: exact resume, non-finite steps, best weights, schedules."""

from __future__ import annotations

import io
import math
import signal

import pytest
import torch

from pflow.data.pair_stream import TensorPairs
from pflow.errors import PflowError
from pflow.execution.interruption import Interrupted
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.hybrid import Hybrid
from pflow.objectives.maximum_likelihood import MaximumLikelihood, mean_negative_log_likelihood
from pflow.objectives.replay.score_replay import ScoreReplay
from pflow.objectives.reverse_kl import ReverseKL
from pflow.objectives.stopping import Stopping
from pflow.problems import build_problem
from pflow.storage.checkpoint import Checkpoint
from pflow.training import Optimiser, train


class Quiet:
    """A monitor that measures nothing, or the value of a function at each mark."""

    def __init__(self, criterion=None, patience=0, values=None):
        self.criterion, self.patience, self.values = criterion, patience, iter(values or ())

    def mark(self, objective):
        return getattr(objective, "epoch", 0)

    def measure(self, flow):
        return {self.criterion: next(self.values)} if self.criterion else {}


def run(
    tmp_path, objective, flow, *, interrupt_at=None, monitor=None, optimiser=None, generator=None
):
    """Train; `interrupt_at` raises a real SIGTERM in that step."""
    original_loss = objective.loss
    steps = 0

    def loss(*arguments):
        nonlocal steps
        steps += 1
        if steps == interrupt_at:
            signal.raise_signal(signal.SIGTERM)
        return original_loss(*arguments)

    objective.loss = loss
    return train(
        flow,
        objective,
        optimiser or Optimiser(1e-2, warmup=3, schedule="cosine", clip=10.0),
        generator=generator or generator_for(0, "test"),
        monitor=monitor or Quiet(),
        checkpoint=Checkpoint(tmp_path / "state.safetensors", "test"),
        progress=Progress("test", io.StringIO()),
    )


def likelihood() -> tuple[MaximumLikelihood, torch.nn.Module]:
    x, y = build_problem("rosenbrock").simulate(100, generator_for(0, "pairs"))
    torch.manual_seed(0)
    return MaximumLikelihood(TensorPairs(x, y), batch=16, epochs=3), build_flow(
        "coupling", (2,), (2,), depth=2, hidden=8
    )


def divergence() -> tuple[ReverseKL, torch.nn.Module]:
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (2,), depth=2, hidden=8)
    return (
        ReverseKL(
            Target(build_problem("rosenbrock"), torch.tensor([[1.0, 2.0]])),
            Stopping(160),
            16,
            "path",
        ),
        flow,
    )


def replay() -> tuple[ScoreReplay, torch.nn.Module]:
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (2,), depth=2, hidden=8)
    return (
        ScoreReplay(
            Target(build_problem("rosenbrock"), torch.tensor([[1.0, 2.0]])), Stopping(48), inner=5
        ),
        flow,
    )


def hybrid() -> tuple[Hybrid, torch.nn.Module]:
    objective, flow = replay()
    objective.stopping.evaluations = 16
    return Hybrid(objective, ReverseKL(objective.target, Stopping(64), 16, "path")), flow


@pytest.mark.parametrize("make", [likelihood, divergence, replay, hybrid])
@pytest.mark.parametrize("interrupt_at", [1, 7])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, make, interrupt_at):
    objective, whole = make()
    expected = run(tmp_path / "whole", objective, whole)

    objective, flow = make()
    with pytest.raises(Interrupted):
        run(tmp_path, objective, flow, interrupt_at=interrupt_at)
    objective, flow = make()
    with torch.no_grad():  # a fresh process knows nothing: whatever it starts with must not matter
        for parameter in flow.parameters():
            parameter.add_(1.0)
    resumed = run(tmp_path, objective, flow, generator=torch.Generator().manual_seed(99))

    assert resumed.step == expected.step
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, flow.state_dict()[name]), name
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in state.rows]
        for state in (resumed, expected)
    ]
    assert timeless[0] == timeless[1]


def test_a_single_bad_step_changes_nothing_and_is_counted(tmp_path):
    objective, flow = likelihood()
    original_loss, before = objective.loss, []

    def loss(network, generator):
        value, numbers = original_loss(network, generator)
        if objective.step == 4:
            before.append({k: v.clone() for k, v in network.state_dict().items()})
            return value * math.nan, numbers
        if objective.step == 5:
            assert all(torch.equal(v, network.state_dict()[k]) for k, v in before[0].items())
        return value, numbers

    objective.loss = loss
    state = run(tmp_path, objective, flow)
    assert state.skipped == 1 and before


def test_bad_steps_in_a_row_stop_with_advice(tmp_path):
    objective, flow = likelihood()
    original_loss = objective.loss
    objective.loss = lambda *a: (original_loss(*a)[0] * math.inf, {})
    with pytest.raises(PflowError, match="not finite in 5 steps in a row.*lower `learning_rate`"):
        run(tmp_path, objective, flow)


def test_best_weights_are_kept_and_patience_stops(tmp_path):
    objective, flow = likelihood()
    seen = []
    monitor = Quiet("validation_loss", patience=2, values=[3.0, 1.0, 2.0, 2.5])
    measure = monitor.measure
    monitor.measure = lambda f: (
        seen.append({k: v.clone() for k, v in f.state_dict().items()}) or measure(f)
    )
    state = run(tmp_path, objective, flow, monitor=monitor)
    assert state.best_value == 1.0
    assert all(torch.equal(v, flow.state_dict()[k]) for k, v in seen[1].items())
    assert len(seen) == 4


class HeldOut:
    """The loss of other pairs after each epoch."""

    criterion, patience = "validation_loss", 3

    def __init__(self):
        self.pairs = TensorPairs(
            *build_problem("rosenbrock").simulate(50, generator_for(1, "pairs"))
        )

    def mark(self, objective):
        return objective.epoch

    def measure(self, flow):
        return {"validation_loss": mean_negative_log_likelihood(flow, self.pairs)}


def test_a_run_that_is_killed_while_patience_counts_stops_at_the_same_step(tmp_path):
    def overfitting():
        objective, flow = likelihood()
        objective.epochs = 60
        return objective, flow

    optimiser = Optimiser(3e-2)
    objective, whole = overfitting()
    expected = run(tmp_path / "whole", objective, whole, monitor=HeldOut(), optimiser=optimiser)
    assert expected.stale == 3 and expected.step < 60 * objective.steps_per_epoch
    killed_at = expected.step - objective.steps_per_epoch  # two epochs without a better one
    objective, flow = overfitting()
    with pytest.raises(Interrupted):
        run(
            tmp_path,
            objective,
            flow,
            monitor=HeldOut(),
            optimiser=optimiser,
            interrupt_at=killed_at,
        )
    objective, flow = overfitting()
    resumed = run(tmp_path, objective, flow, monitor=HeldOut(), optimiser=optimiser)
    assert (resumed.step, resumed.best_value) == (expected.step, expected.best_value)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, flow.state_dict()[name]), name


def test_step_sizes_follow_their_formulas():
    exponential = Optimiser(1.0, warmup=4, schedule="exponential", decay=0.5, decay_steps=10)
    assert [exponential.step_size(k, 0.0) for k in (0, 1, 3, 9, 10, 25)] == [
        0.25,
        0.5,
        1.0,
        1.0,
        0.5,
        0.25,
    ]
    cosine = Optimiser(2.0, schedule="cosine")
    assert cosine.step_size(5, 0.0) == 2.0
    assert cosine.step_size(5, 0.5) == pytest.approx(1.0)
    assert cosine.step_size(5, 1.0) == pytest.approx(0.0)


def test_progress_in_a_log_is_plain_lines():
    stream = io.StringIO()
    progress = Progress("finetune", stream, interval=0.0)
    progress.update(0.0, loss=1.0)
    progress.update(0.5, loss=0.25)
    progress.close("done")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert "50%" in lines[1] and "loss 0.25" in lines[1] and "s left" in lines[1]
