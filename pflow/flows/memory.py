"""Chains of invertible steps, and the memory modes of their backward pass.

    store        everything: fastest, memory grows with every activation of every step
    checkpoint   the state before each block of steps; a block, but for the last, with which the
                 backward pass begins, is computed again when its gradient is asked for. Gradients
                 are bit for bit those of `store`. Of more than 16 blocks, states are kept before 16
                 groups of them, and inside a group while it is computed again: memory then hardly
                 grows with the number of blocks, for one more computation
    invert       the last state alone: a step's input is computed from its output. Gradients have
        the rounding of that
                 inverse, and cannot be differentiated again

A step is a function of its state and of `tensors` and nothing else. So a step that is computed
again has the inputs of the first pass, even if the module's parameters have changed in between (an
optimiser's step, or torch.func.functional_call).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pflow.errors import PflowError

__all__ = ["MEMORY", "Block", "Reversed", "State", "Step", "require_memory_mode", "reverse", "run"]

MEMORY = ("store", "checkpoint", "invert")
GROUPS = 16
State = tuple[Tensor, ...]
Result = tuple[State, Tensor]


class Step:
    """An invertible map of a state, which is a tuple of tensors (batch, ...).

    Arguments:
        tensors: all that the map depends on: weights, and features of the data.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def forward(self, state: State, tensors: State) -> Result:
        """The next state, and the log-determinant of each sample, (batch,) or (1,)."""
        raise NotImplementedError

    def inverse(self, state: State, tensors: State) -> Result:
        """The state before, and the log-determinant of this map, which is minus that of
        `forward`.
        """
        raise NotImplementedError

    def retrace(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        """From the result of `forward`: its state as leaves of a new graph, and the result and
        log-determinant computed in it.
        """
        with torch.no_grad():
            state, _ = self.inverse(result, tensors)
        leaves = tuple(part.detach().requires_grad_() for part in state)
        return leaves, *self.forward(leaves, tensors)

    def retrace_inverse(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        """The same for `inverse`."""
        with torch.no_grad():
            state, _ = self.forward(result, tensors)
        leaves = tuple(part.detach().requires_grad_() for part in state)
        return leaves, *self.inverse(leaves, tensors)


Block = tuple[Step, ...]


class Reversed(Step):
    """The inverse of a step, as a step."""

    def __init__(self, step: Step) -> None:
        super().__init__(*step.tensors)
        self.step = step

    def forward(self, state: State, tensors: State) -> Result:
        return self.step.inverse(state, tensors)

    def inverse(self, state: State, tensors: State) -> Result:
        return self.step.forward(state, tensors)

    def retrace(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        return self.step.retrace_inverse(result, tensors)

    def retrace_inverse(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        return self.step.retrace(result, tensors)


def reverse(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of the inverse map."""
    return [tuple(Reversed(step) for step in reversed(block)) for block in reversed(blocks)]


def require_memory_mode(memory: str) -> None:
    """Raise PflowError for anything that is not in `MEMORY`."""
    if memory not in MEMORY:
        raise PflowError(
            f"`memory` (='{memory}') of a flow must be one of {', '.join(MEMORY)}: choose one of"
            " these"
        )


def run(blocks: Sequence[Block], state: State, memory: str) -> Result:
    """The state after all steps of all blocks, and the sum of their log-determinants, (batch,).

    Arguments:
        blocks: steps in the order of their application; `checkpoint` keeps the state before a
            block.
        state: tensors (batch, ...), the first of the whole batch.
        memory: one of `MEMORY`.
    """
    steps = [step for block in blocks for step in block]
    tensors = list({id(t): t for step in steps for t in step.tensors}.values())
    if (
        memory == "store"
        or not torch.is_grad_enabled()
        or not any(t.requires_grad for t in (*state, *tensors))
    ):
        return _plain(steps, state)
    if memory == "checkpoint":
        return _checkpointed(blocks, state)
    place = {id(t): k for k, t in enumerate(tensors)}
    chain = [(step, [place[id(t)] for t in step.tensors]) for step in steps]
    *state, total = _Inverted.apply(chain, len(state), *state, *tensors)
    return tuple(state), total


def _plain(steps: Sequence[Step], state: State) -> Result:
    total = torch.zeros(
        len(state[0]),
        device=state[0].device,
        dtype=torch.promote_types(state[0].dtype, torch.float32),
    )
    for step in steps:
        state, log_determinant = step.forward(state, step.tensors)
        total = total + log_determinant
    return state, total


def _checkpointed(blocks: Sequence[Block], state: State) -> Result:
    size = -(-len(blocks) // GROUPS)
    total: Any = 0.0
    for first in range(0, len(blocks), size):
        pass_through: Callable[[Any, State], Result] = _plain if size == 1 else _checkpointed
        part: Any = blocks[first] if size == 1 else blocks[first : first + size]
        if first + size >= len(blocks):
            # the backward pass begins here, and would at once recompute what was just discarded
            state, log_determinant = pass_through(part, state)
        else:
            # the state's tensors one by one: inside a tuple an outer checkpoint would not find
            # them, and they would stay in memory
            state, log_determinant = checkpoint(
                partial(_spread, pass_through, part),
                *state,
                use_reentrant=False,
                preserve_rng_state=False,
            )
        total = total + log_determinant
    return state, total


def _spread(pass_through: Callable[[Any, State], Result], part: Any, *state: Tensor) -> Result:
    return pass_through(part, state)


class _Inverted(torch.autograd.Function):
    """A chain that keeps its last state and recomputes the others by the inverses of its steps.

    Its first argument holds, for each step, the step and the places of its tensors among the inputs
    after the state.
    """

    @staticmethod
    def forward(
        ctx: Any, chain: Sequence[tuple[Step, list[int]]], parts: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.chain, ctx.parts = chain, parts
        state, total = _plain([step for step, _ in chain], inputs[:parts])
        ctx.save_for_backward(*state, *inputs[parts:])
        return *state, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise PflowError(
                "the gradient of a flow with `memory` (='invert') cannot be differentiated again:"
                " set `memory: checkpoint`"
            )
        parts = ctx.parts
        state = ctx.saved_tensors[:parts]
        leaves = [
            t.detach().requires_grad_(want)
            for t, want in zip(
                ctx.saved_tensors[parts:], ctx.needs_input_grad[2 + parts :], strict=True
            )
        ]
        collected: list[Tensor | None] = [None] * len(leaves)
        *state_gradients, total_gradient = gradients
        for step, places in reversed(ctx.chain):
            with torch.enable_grad():
                before, after, log_determinant = step.retrace(
                    state, tuple(leaves[k] for k in places)
                )
            wanted = [k for k in places if leaves[k].requires_grad]
            results = [
                *zip(after, state_gradients, strict=True),
                (log_determinant, total_gradient.sum_to_size(log_determinant.shape)),
            ]
            results = [(value, gradient) for value, gradient in results if value.requires_grad]
            values, value_gradients = zip(*results, strict=True)
            derivatives = torch.autograd.grad(
                values, [*before, *(leaves[k] for k in wanted)], value_gradients, allow_unused=True
            )
            state = tuple(part.detach() for part in before)
            state_gradients = [
                torch.zeros_like(part) if g is None else g
                for part, g in zip(state, derivatives[:parts], strict=True)
            ]
            for k, gradient in zip(wanted, derivatives[parts:], strict=True):
                if gradient is not None:
                    collected[k] = gradient if collected[k] is None else collected[k] + gradient
        return None, None, *state_gradients, *collected
