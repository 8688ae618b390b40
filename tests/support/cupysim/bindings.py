"""Replacing functions of CuPy's compiled modules.

CuPy's Cython modules call the CUDA runtime and driver through two modules of their own,
``cupy_backends.cuda.api.runtime`` and ``.driver``. Each of these publishes the addresses of its C functions in a
dictionary ``__pyx_capi__`` of capsules; a capsule's name is the function's C signature. Other modules read the
dictionary when they are imported. So whoever exchanges the capsules before that exchanges the functions.

The new C functions are generated here, one for each signature, and compiled once: each hands its arguments to a Python
function and hands back the result, or the exception in the way that Cython expects.
"""

from __future__ import annotations

import ctypes
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import compiler
from .errors import refuse

_python = ctypes.pythonapi
_python.PyCapsule_GetName.restype = ctypes.c_char_p
_python.PyCapsule_GetName.argtypes = [ctypes.py_object]
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]

_KEPT_FOREVER: list[Any] = []
"""Names of capsules and libraries: CuPy frees memory until the very end of the process."""

# C types of CuPy's signatures -> (how to make a Python object of one, how to make one of a Python object,
# what is returned with an exception: the values that CuPy's declarations name, `except? -1` and so on).
_NUMBERS = {
    "int": ("PyLong_FromLong", "PyLong_AsLong", "-1"),
    "long": ("PyLong_FromLong", "PyLong_AsLong", "-1"),
    "intptr_t": ("PyLong_FromSsize_t", "PyLong_AsSsize_t", "0"),
    "size_t": ("PyLong_FromSize_t", "PyLong_AsSize_t", "-1"),
    "uintmax_t": ("PyLong_FromSize_t", "PyLong_AsSize_t", "0"),
    "unsigned int": ("PyLong_FromSize_t", "PyLong_AsSize_t", "0"),
    "float": ("PyFloat_FromDouble", "PyFloat_AsDouble", "0"),
}
_ALIASES = {"CUdevice": "int", "cudaMemcpyKind": "int"}
_OTHER_FAILURES = {"funcGetAttribute": "-2", "streamGetPriority": "0"}

_PREAMBLE = """
#include <cstddef>
#include <cstdint>
// The few functions of Python's stable interface that are needed; declared here, so that no header has to be installed.
extern "C" {
struct PyObject;
extern PyObject _Py_NoneStruct;
PyObject* PyObject_CallFunctionObjArgs(PyObject*, ...);
PyObject* PyErr_Occurred();
void Py_IncRef(PyObject*);
void Py_DecRef(PyObject*);
PyObject* PyLong_FromLong(long);
PyObject* PyLong_FromSsize_t(ptrdiff_t);
PyObject* PyLong_FromSize_t(size_t);
PyObject* PyFloat_FromDouble(double);
long PyLong_AsLong(PyObject*);
ptrdiff_t PyLong_AsSsize_t(PyObject*);
size_t PyLong_AsSize_t(PyObject*);
double PyFloat_AsDouble(PyObject*);
__attribute__((weak)) int Py_IsFinalizing();   // since Python 3.13
__attribute__((weak)) int _Py_IsFinalizing();  // before
}
static bool closing() { return Py_IsFinalizing ? Py_IsFinalizing() : _Py_IsFinalizing ? _Py_IsFinalizing() : false; }
static PyObject* none() { Py_IncRef(&_Py_NoneStruct); return &_Py_NoneStruct; }
static PyObject* object(PyObject* same) { Py_IncRef(same); return same; }
"""


@dataclass(frozen=True)
class Signature:
    """A C function as its capsule names it.

    Attributes:
        name: the function's.
        result: C type.
        parameters: C types; Cython's own parameters (``skip_dispatch``, optional arguments) included.
    """

    name: str
    result: str
    parameters: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> Signature:
        """Read ``text``, such as ``intptr_t (size_t, int __pyx_skip_dispatch)``."""
        match = re.fullmatch(r"(.*?)\s*\((.*)\)", text)
        assert match is not None, f"{name}: {text!r} is no C signature"
        parameters = tuple(match[2].split(", ")) if match[2] not in ("", "void") else ()
        return cls(name, match[1].strip(), parameters)

    @property
    def is_expressible(self) -> bool:
        """Whether arguments and result are numbers and objects: structures stay with CuPy."""
        return all(_is_object(kind) or _number(kind) in _NUMBERS for kind in (self.result, *self.asked))

    @property
    def asked(self) -> list[str]:
        """C types of the parameters without Cython's own."""
        return [kind for kind in self.parameters if "__pyx_skip_dispatch" not in kind and "__pyx_opt_args" not in kind]

    def define(self, slot: int) -> str:
        """Return a C function that calls Python function number ``slot``."""
        types_ = ["void*" if "__pyx_opt_args" in p or _is_object(p) else _number(p) for p in self.parameters]
        parameters = ", ".join(f"{kind} a{i}" for i, kind in enumerate(types_))
        passed = [
            f"object((PyObject*)a{i})" if _is_object(kind) else f"{_NUMBERS[_number(kind)][0]}(a{i})"
            for i, kind in enumerate(self.asked)
        ]
        made = "".join(f"  PyObject* o{i} = {value};\n" for i, value in enumerate(passed))
        listed = "".join(f"o{i}, " for i in range(len(passed)))
        dropped = "".join(f"  Py_DecRef(o{i});\n" for i in range(len(passed)))
        if _is_object(self.result):
            kind, idle, failure, convert = "PyObject*", "none()", "nullptr", "  return got;\n"
        else:
            kind, idle = _number(self.result), "0"
            failure = _OTHER_FAILURES.get(self.name, _NUMBERS[kind][2])
            convert = (
                f"  {kind} number = ({kind}){_NUMBERS[kind][1]}(got);\n  Py_DecRef(got);\n"
                f"  return PyErr_Occurred() ? ({kind}){failure} : number;\n"
            )
        return (
            f"static {kind} entry{slot}({parameters}) {{  // {self.name}\n"
            f"  if (closing()) return {idle};\n{made}"
            f"  PyObject* got = PyObject_CallFunctionObjArgs(functions[{slot}], {listed}nullptr);\n{dropped}"
            f"  if (!got) return ({kind}){failure};\n{convert}}}\n"
        )


def _is_object(kind: str) -> bool:
    return kind.endswith("*") and ("PyObject" in kind or "__pyx_obj" in kind)


def _number(kind: str) -> str:
    kind = kind.replace(" __pyx_skip_dispatch", "")
    return _ALIASES.get(kind, kind)


def replace(module: types.ModuleType, functions: Mapping[str, Callable[..., Any]], kept: frozenset[str]) -> None:
    """Replace all functions of a compiled module, for C and for Python callers.

    Args:
        module: has ``__pyx_capi__``.
        functions: by name. All others raise :class:`~.errors.NotEmulated`.
        kept: names of functions that touch no device, which stay as they are.
    """
    short = module.__name__.rpartition(".")[2]
    capsules = module.__pyx_capi__
    unknown = sorted(set(functions) - set(capsules) - set(dir(module)))
    assert not unknown, f"{module.__name__} has no {unknown}"

    def substitute(name: str) -> Callable[..., Any]:
        return functions.get(name) or _refusal(f"cupy.cuda.{short}.{name}")

    # Capsules without a parameter list are variables.
    signatures = [Signature.parse(n, _text(c)) for n, c in capsules.items() if n not in kept and "(" in _text(c)]
    signatures = [signature for signature in signatures if signature.is_expressible]
    library = compiler.build_library(f"bindings-{short}", _source(signatures))
    entries = (ctypes.c_void_p * len(signatures)).in_dll(library, "entries")
    slots = (ctypes.py_object * len(signatures)).in_dll(library, "functions")
    for i, signature in enumerate(signatures):
        function = substitute(signature.name)
        text = ctypes.create_string_buffer(_text(capsules[signature.name]).encode())
        _KEPT_FOREVER.extend([function, text, capsules[signature.name]])
        _python.Py_IncRef(ctypes.py_object(function))
        slots[i] = function  # type: ignore[assignment]
        capsules[signature.name] = _python.PyCapsule_New(entries[i], ctypes.addressof(text), None)
    for name in dir(module):
        value = getattr(module, name)
        if name.startswith("__") or name in kept or isinstance(value, type) or not callable(value):
            continue
        setattr(module, name, substitute(name))


def refuse_all(module: types.ModuleType, kept: frozenset[str] = frozenset()) -> None:
    """Let every function of ``module`` that Python code can reach raise :class:`~.errors.NotEmulated`."""
    for name, value in list(vars(module).items()):
        if not name.startswith("__") and name not in kept and callable(value) and not isinstance(value, type):
            setattr(module, name, _refusal(f"{module.__name__}.{name}"))


def _refusal(name: str) -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise refuse(name)

    refused.__name__ = name.rpartition(".")[2]
    return refused


def _text(capsule: Any) -> str:
    return str(_python.PyCapsule_GetName(capsule).decode())


def _source(signatures: list[Signature]) -> str:
    lines = [_PREAMBLE, f'extern "C" {{ PyObject* functions[{len(signatures)}]; }}\n']
    lines += [signature.define(slot) for slot, signature in enumerate(signatures)]
    listed = ", ".join(f"(void*)entry{slot}" for slot in range(len(signatures)))
    return "".join([*lines, f'extern "C" {{ extern void* const entries[]; void* const entries[] = {{{listed}}}; }}\n'])
