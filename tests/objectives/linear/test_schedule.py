"""Steps end when the ELBO no longer grows, and their size falls before."""

from __future__ import annotations

import pytest

from pflow.objectives.linear.schedule import BLOCK, FALL, SMALL_GAIN, Schedule

PARAMETERS = 100


def run(schedule, elbo, steps=10_000):
    """The factors of the step size, with ELBO `elbo(step)`."""
    factors = []
    while not schedule.finished and len(factors) < steps:
        factors.append(schedule.factor)
        schedule.record(elbo(schedule.step))
    return factors


def test_an_elbo_that_stands_still_ends_the_steps_after_two_blocks():
    schedule = Schedule(PARAMETERS)
    factors = run(schedule, lambda step: 3.0)
    assert schedule.full == 2 * BLOCK and len(factors) == 2 * BLOCK * (1 + FALL)
    assert factors[: 2 * BLOCK] == [1.0] * (2 * BLOCK)
    falling = factors[2 * BLOCK :]
    assert falling == sorted(falling, reverse=True) and falling[-1] < 0.01
    assert schedule.gain == 0
    assert schedule.reason == "the flow took 160 steps, after 40 of them had gained 0 nats"


def test_steps_go_on_while_a_block_gains():
    """By 2 in 100 parameters for five blocks, and then by half of what counts."""
    gains = [2.0] * 5 + [0.5 * SMALL_GAIN * PARAMETERS] * 20
    levels = [sum(gains[:k]) for k in range(len(gains))]
    schedule = Schedule(PARAMETERS)
    run(schedule, lambda step: levels[step // BLOCK])
    assert schedule.full == 7 * BLOCK
    assert schedule.gain == pytest.approx(0.5 * SMALL_GAIN * PARAMETERS)


def test_the_largest_number_of_steps_holds_and_leaves_room_for_the_fall():
    schedule = Schedule(PARAMETERS, most=30)
    factors = run(schedule, lambda step: 100.0 * step)
    assert len(factors) == 30 and factors.count(1.0) == 16
    assert schedule.reason == "the flow took 30 steps, the most that are allowed"


def test_a_saved_schedule_goes_on():
    whole, begun = Schedule(PARAMETERS), Schedule(PARAMETERS)
    elbo = [-1000.0 / (1 + step) for step in range(2000)]
    factors = run(whole, elbo.__getitem__)
    run(begun, elbo.__getitem__, steps=57)
    again = Schedule(PARAMETERS)
    again.load_state_dict(begun.state_dict())
    assert run(again, elbo.__getitem__) == factors[57:]
    assert again.fraction == 1 and again.blocks == whole.blocks
