"""Fingerprint of an object of a running Python process: its data, and the code of all functions and
classes that it can reach.

Objects of a notebook have no file whose code could be hashed. From the object, attributes,
closures, defaults and the global names that functions read are followed. Counted are:

- numbers, text, arrays and tensors with their content;
- functions and classes of the user by their compiled code (comments, docstrings and line numbers
  do not count), with all that they refer to; names that a function assigns itself, such as a
  counter, do not count;
- modules of the user by their files, as `pflow.provenance.user_code` does;
- libraries by the names of what is used, pflow by its code.

An object that remembers something while it is used has another fingerprint afterwards: take the
fingerprint once, before its use.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import io
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pflow.errors import PflowError
from pflow.provenance.code import pflow_content
from pflow.provenance.user_code import user_code_fingerprint

__all__ = ["live_fingerprint"]

PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, range, slice)
# Attributes of objects of pflow and torch that only save a computation.
SAVED = {"_copies", "_inv", "_cached_x_y"}
OF_EACH_CLASS = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__annotations__",
    "__abstractmethods__",
    "_abc_impl",
    "__firstlineno__",
    "__static_attributes__",
}


def live_fingerprint(thing: Any) -> str:
    """Two hashes, "USER-PFLOW": of the object with the user's code that it reaches, and of the code
    of pflow that this uses.

    Raises:
        PflowError: an object has no content that Python shows, such as an open file.
    """
    walk = _Walk()
    walk.visit(thing)
    return f"{walk.digest.hexdigest()[:16]}-{pflow_content(walk.pflow)[:8]}"


class _Walk:
    """One walk over everything that can be reached, in a fixed order."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.pflow: set[str] = set()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no number of `id` is used again

    def visit(self, thing: Any) -> None:
        if isinstance(thing, PLAIN) and type(thing) in PLAIN:
            return self._note(type(thing).__name__, repr(thing))
        if id(thing) in self._seen:
            return self._note("again", self._seen[id(thing)])
        self._seen[id(thing)] = len(self._seen)
        self._kept.append(thing)
        if isinstance(thing, types.ModuleType):
            self._module(thing)
        elif self._known(thing):
            return
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, (types.MethodType, functools.partial)):
            self._bound(thing)
        elif isinstance(thing, types.CodeType):
            self._code(thing)
        elif not self._container(thing) and not self._array(thing):
            self._instance(thing)

    def _note(self, *parts: object) -> None:
        self.digest.update("\0".join(map(str, parts)).encode() + b"\1")

    def _all(self, things: Any) -> None:
        for thing in things:
            self.visit(thing)

    def _container(self, thing: Any) -> bool:
        """Whether it is one of Python's own containers."""
        if type(thing) in (list, tuple):
            self._note(type(thing).__name__, len(thing))
            self._all(thing)
        elif type(thing) in (dict, types.MappingProxyType):
            self._mapping("dict", thing)
        elif type(thing) in (set, frozenset):
            self._note("set", len(thing))
            self._all(sorted(thing, key=repr))
        else:
            return False
        return True

    def _mapping(self, what: str, content: Mapping[Any, Any]) -> None:
        self._note(what, len(content))
        for key in sorted(content, key=repr):
            self.visit(key)
            self.visit(content[key])

    def _array(self, thing: Any) -> bool:
        """Whether it is an array of NumPy or a tensor of torch, which are never imported here."""
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if torch is not None and isinstance(thing, torch.Tensor):
            self._note("tensor", thing.dtype)
            if thing.is_sparse:
                thing = thing.to_dense()
            thing = thing.detach().cpu().contiguous()
            thing = thing.flatten().view(torch.uint8) if thing.numel() else thing
            thing = thing.numpy()
        if numpy is None or not isinstance(thing, (numpy.ndarray, numpy.generic)):
            return False
        array = numpy.asarray(thing)
        self._note("array", array.dtype, array.shape)
        if array.dtype.hasobject:
            self.visit(array.tolist())
        else:
            self.digest.update(numpy.ascontiguousarray(array).tobytes())
        return True

    def _module(self, module: types.ModuleType) -> None:
        self._note("module", module.__name__)
        file = getattr(module, "__file__", None)
        if module.__name__.split(".")[0] == "pflow":
            self.pflow.add(module.__name__)
        elif file and not _of_library(module.__name__):
            self._note(user_code_fingerprint(Path(file)))

    def _known(self, thing: Any) -> bool:
        """Whether it is a class or a function of pflow or of a library, which count by name."""
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
        if not callable(thing) or not isinstance(name, str) or "<" in name:
            return False
        if not isinstance(module, str):  # `math.exp` has one, a method such as `[].append` has none
            module = type(getattr(thing, "__self__", None)).__module__
        if module.split(".")[0] == "pflow":
            self.pflow.add(f"{module}.{name.split('.')[0]}")
        elif not _of_library(module):
            return False
        self._note("known", module, name)
        if not isinstance(thing, type) and not isinstance(
            getattr(thing, "__self__", None), types.ModuleType
        ):
            self.visit(getattr(thing, "__self__", None))
        return True

    def _class(self, kind: type) -> None:
        self._note("class", kind.__qualname__)
        self._all(kind.__bases__)
        content = {key: value for key, value in vars(kind).items() if key not in OF_EACH_CLASS}
        for key in sorted(content):
            self._note(key)
            self._all(_parts(content[key]))

    def _bound(self, thing: Any) -> None:
        """A method of an object, or a function with some of its arguments."""
        self._note("bound")
        if isinstance(thing, functools.partial):
            self._all((thing.func, thing.args, thing.keywords))
        else:
            self._all((thing.__self__, thing.__func__))

    def _function(self, function: types.FunctionType) -> None:
        self._code(function.__code__, function.__doc__)
        self._all((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents)
            except ValueError:  # a name that is not assigned yet
                self._note("empty")
        for name in sorted(_globals_read(function.__code__)):
            if name in function.__globals__:
                self._note(name)
                self.visit(function.__globals__[name])

    def _code(self, code: types.CodeType, docstring: str | None = None) -> None:
        constants = code.co_consts
        if docstring is not None and constants and constants[0] == docstring:
            constants = (None, *constants[1:])  # as without a docstring
        self._note("code", code.co_code.hex(), code.co_names, code.co_varnames, code.co_argcount)
        self._all(constants)

    def _instance(self, thing: Any) -> None:
        self.visit(type(thing))
        state = _state(thing)
        if isinstance(thing, (list, tuple, dict, set)):  # a subclass of one of them
            self._all(thing.items() if isinstance(thing, dict) else thing)
        elif not state or isinstance(thing, io.IOBase):
            self._reduced(thing)
        self._mapping("object", state)

    def _reduced(self, thing: Any) -> None:
        """An object of compiled code, as `copy` sees it."""
        try:
            reduced = thing.__reduce_ex__(2)  # an open file refuses
        except Exception as error:  # a foreign object may raise anything
            raise PflowError(
                f"a problem must consist of numbers, arrays and code, and this one holds a"
                f" {type(thing).__module__}.{type(thing).__qualname__} ({error}): open it inside"
                " the operator's functions, or put the problem into a file and name the file"
            ) from error
        self.visit(reduced if isinstance(reduced, str) else list(reduced[:3]))


def _parts(attribute: Any) -> Iterator[Any]:
    """What counts of an attribute of a class: the functions in a property, a static method."""
    if isinstance(attribute, (staticmethod, classmethod)):
        yield attribute.__func__
    elif isinstance(attribute, property):
        yield from (attribute.fget, attribute.fset)
    elif isinstance(attribute, functools.cached_property):
        yield attribute.func
    elif not isinstance(attribute, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        yield attribute


def _state(thing: Any) -> dict[str, Any]:
    """The attributes of an object, without those that are computed from others when asked for."""
    classes = type(thing).__mro__
    computed = {
        name
        for base in classes
        for name, value in vars(base).items()
        if isinstance(value, functools.cached_property)
    }
    slots = [slot for base in classes for slot in _slots(base) if hasattr(thing, slot)]
    state = {**getattr(thing, "__dict__", {}), **{slot: getattr(thing, slot) for slot in slots}}
    return {name: value for name, value in state.items() if name not in computed | SAVED}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _globals_read(code: types.CodeType) -> set[str]:
    """Global names that a function reads and does not assign, those of functions in it included."""
    read, assigned = set(), set()
    waiting = [code]
    while waiting:
        inner = waiting.pop()
        for instruction in dis.get_instructions(inner):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(instruction.argval)
            elif instruction.opname == "STORE_GLOBAL":
                assigned.add(instruction.argval)
        waiting += [one for one in inner.co_consts if isinstance(one, types.CodeType)]
    return read - assigned


def _of_library(module: str) -> bool:
    """Whether a module came with Python or was installed."""
    root = module.split(".")[0]
    if root in ("__main__", "__mp_main__"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    if root in sys.stdlib_module_names or file is None:
        return True
    return any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
