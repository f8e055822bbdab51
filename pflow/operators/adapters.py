"""Operators from existing code; docs/operators.md has an example of each.

TorchOperator           a function in torch
ModuleOperator          a torch.nn.Module
PhysicsOperator         an object with A and A_adjoint, deepinv's convention
NumPyOperator           NumPy functions for F and, where there is one, its gradient
LinearOperatorAdapter   a LinearOperator of SciPy or PyLops
ProgramOperator         a program, through files
UMBridgeOperator        a model on a UM-Bridge server
DeepwaveOperator        acoustic waves by deepwave
MatrixOperator          a matrix
ComposedOperator        an operator after a change of variables
"""

from __future__ import annotations

from pflow.operators.arrays import LinearOperatorAdapter, NumPyOperator
from pflow.operators.composed import ComposedOperator
from pflow.operators.functions import ModuleOperator, PhysicsOperator, TorchOperator
from pflow.operators.linear import MatrixOperator
from pflow.operators.program import ProgramOperator
from pflow.operators.umbridge import UMBridgeOperator
from pflow.operators.waves import DeepwaveOperator

__all__ = [
    "ComposedOperator",
    "DeepwaveOperator",
    "LinearOperatorAdapter",
    "MatrixOperator",
    "ModuleOperator",
    "NumPyOperator",
    "PhysicsOperator",
    "ProgramOperator",
    "TorchOperator",
    "UMBridgeOperator",
]
