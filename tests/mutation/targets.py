"""Which functions there are, which of them run, and a slip put in the place of one."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uanref

ROOT = Path(uanref.__file__).parent
# Where code lives that slips are written into: folders and files below the package, those that exist.
PLACES = ("layers", "norms", "neighbours", "optimizers", "derivations", "losses.py", "kernels/cpu")
# Forward code that already computes a part of the gradient and keeps it. A slip there counts only if it leaves the
# output as it was: one that changes the output is no slip of a derivation.
KEPT_BY_FORWARD = {("layers/activation.py", "gelu"), ("layers/activation.py", "gaussian")}


@dataclass(frozen=True)
class Target:
    """One function of the package.

    Attributes:
        file: its path below the package, ``"norms/batch.py"``.
        name: its qualified name, ``"BatchNorm.backward"``; functions inside it belong to it.
    """

    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def kept_by_forward(self) -> bool:
        """Whether this is forward code that computes a part of the gradient."""
        return (self.file, self.name) in KEPT_BY_FORWARD

    @property
    def is_version(self) -> bool:
        """Whether this is a part of the faster versions, and not of a definition."""
        return self.file.startswith("kernels/")

    @property
    def is_named_backward(self) -> bool:
        """Whether the name alone says that this is backward code."""
        last = self.name.rpartition(".")[2]
        return last == "backward" or last.endswith("_backward")

    @property
    def tree(self) -> ast.FunctionDef:
        """Its source."""
        return _functions(self.file)[self.name]


def files() -> list[str]:
    """Return the files of those places, as paths below the package."""
    found = []
    for place in PLACES:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.glob("**/*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def functions() -> list[Target]:
    """Return every function and method of those files, abstract ones (which only raise) left out."""
    return [Target(file, name) for file in files() for name, tree in _functions(file).items() if not _is_abstract(tree)]


@functools.cache
def _functions(file: str) -> dict[str, ast.FunctionDef]:
    def collect(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef):
                yield from collect(node.body, f"{prefix}{node.name}.")

    return dict(collect(ast.parse((ROOT / file).read_text(encoding="utf-8")).body, ""))


def _is_abstract(tree: ast.FunctionDef) -> bool:
    return all(isinstance(node, ast.Raise) or (ast.get_docstring(tree) and node is tree.body[0]) for node in tree.body)


# --- which are backward code ------------------------------------------------------------------------


def calls(run: Callable[[], object]) -> set[Target]:
    """Run something and return which functions of the package it called."""
    found: set[Target] = set()

    def note(frame: types.FrameType, event: str, argument: object) -> None:
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(str(ROOT)):
                file = Path(code.co_filename).relative_to(ROOT).as_posix()
                found.add(Target(file, code.co_qualname.partition(".<locals>")[0]))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


# --- a slip in place --------------------------------------------------------------------------------


@contextlib.contextmanager
def planted(target: Target, tree: ast.FunctionDef) -> Iterator[None]:
    """Let the target run ``tree`` inside this block.

    The function object stays, only its code is another: whoever imported the function, or inherits the method, sees
    the slip at once, and no module has to be loaded again.
    """
    function = _function(target)
    before = function.__code__
    function.__code__ = _compiled(target, tree)
    try:
        yield
    finally:
        function.__code__ = before


def _function(target: Target) -> types.FunctionType:
    module = importlib.import_module("uanref." + target.file.removesuffix(".py").replace("/", "."))
    found: object = module
    for name in target.name.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, functools.cached_property):
        found = found.func
    while True:
        # staticmethod and classmethod hold theirs in __func__, caches and accelerated definitions in __wrapped__.
        inner = getattr(found, "__func__", None) or inspect.unwrap(found)  # type: ignore[arg-type]
        if inner is found:
            break
        found = inner
    if not isinstance(found, types.FunctionType):
        raise TypeError(f"{target} is a {type(found).__name__}: the gate does not know where its code is")
    return found


def _compiled(target: Target, tree: ast.FunctionDef) -> types.CodeType:
    """Compile a function on its own, in classes of its qualified name's, and return its code."""
    node: ast.stmt = tree
    for name in reversed(target.name.split(".")[:-1]):
        node = ast.ClassDef(name=name, bases=[], keywords=[], body=[node], decorator_list=[], type_params=[])
    future = ast.ImportFrom(module="__future__", names=[ast.alias(name="annotations")], level=0)
    module = ast.fix_missing_locations(ast.Module(body=[future, node], type_ignores=[]))
    code = compile(module, str(ROOT / target.file), "exec")
    for name in target.name.split("."):
        code = next(inner for inner in code.co_consts if isinstance(inner, types.CodeType) and inner.co_name == name)
    return code
