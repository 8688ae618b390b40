"""Functions that tell what they compute: their code, compiled again with a note around every operation.

A profiler of Python sees functions. What takes the time here are NumPy's operations: ``out += x``, ``multiply(...)``,
``z.sum()``, which no hook of the interpreter's reports. So the source is parsed, every operator, call and access by an
index becomes a call of a recorder, and the functions of a module get the new code for a while. Functions stay the
objects that they were: whoever has imported one, or keeps it in a cache, calls the new code.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

NAME = "_uanref_recorder"
"""What the recorder is called inside the modules."""

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "truediv",
    ast.Mod: "mod",
    ast.FloorDiv: "floordiv",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.USub: "neg",
    ast.Invert: "invert",
}


@contextlib.contextmanager
def instrumented(recorder: object, names: Sequence[str]) -> Iterator[None]:
    """Let ``recorder`` see what the functions of some modules compute inside this block.

    Args:
        recorder: is called as ``recorder(site, function, *args, **kwargs)`` instead of the function, an operator's
            being that of the module ``operator``; an access by an index takes ``recorder.getitem``, ``setitem`` or
            ``augment(site, operator, array, index, value)``.
        names: modules, each with those below it, as far as they were imported.
    """
    before: list[tuple[FunctionType, CodeType]] = []
    modules = [module for name, module in list(sys.modules.items()) if _is_below(name, names)]
    try:
        for module in modules:
            codes = _codes(module)
            for function in _functions(module):
                code = codes.get(_key(function.__code__))
                if code is not None:
                    before.append((function, function.__code__))
                    function.__code__ = code
            vars(module)[NAME] = recorder
        yield
    finally:
        for function, code in before:
            function.__code__ = code
        for module in modules:
            vars(module).pop(NAME, None)


def _is_below(name: str, names: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in names)


@functools.cache
def _codes(module: ModuleType) -> dict[tuple[str, int], CodeType]:
    """Return the new code of every function of a module, by its name and first line."""
    path = str(module.__file__)
    tree = _Noting(Path(path).name).visit(ast.parse(inspect.getsource(module)))
    waiting, found = [compile(ast.fix_missing_locations(tree), path, "exec")], {}
    while waiting:
        for one in waiting.pop().co_consts:
            if isinstance(one, CodeType):
                found[_key(one)] = one
                waiting.append(one)
    return found


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the functions and methods that a module defines, those behind decorators as well."""
    values = list(vars(module).values())
    for kind in [value for value in values if inspect.isclass(value) and value.__module__ == module.__name__]:
        for value in vars(kind).values():
            values += [getattr(value, "__func__", value), getattr(value, "fget", None)]
    for value in values:
        found = inspect.unwrap(value) if callable(value) else None
        if isinstance(found, FunctionType) and found.__code__.co_filename == module.__file__:
            yield found


class _Noting(ast.NodeTransformer):
    """Turns operations into calls of the recorder; all that is evaluated is evaluated once."""

    def __init__(self, file: str) -> None:
        self.file = file

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(one) for one in node.body]  # neither annotations nor decorators
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        node.body = [self.visit(one) for one in node.body]  # a pattern is no expression
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return self._told(node, _operator(node.op), node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return self._told(node, _operator(node.op), node.operand) if type(node.op) in _OPERATORS else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1 or type(node.ops[0]) not in _OPERATORS:
            return node
        return self._told(node, _operator(node.ops[0]), node.left, node.comparators[0])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super":  # looks at who calls it
            return node
        told = self._told(node, node.func, *node.args)
        told.keywords = node.keywords
        return told

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            return node
        return self._told(node, node.value, _index(node.slice), how="getitem")

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if len(node.targets) > 1 or not isinstance(target := node.targets[0], ast.Subscript):
            return node
        told = self._told(node, target.value, _index(target.slice), node.value, how="setitem")
        return ast.copy_location(ast.Expr(told), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        function, target = _operator(node.op, "i"), node.target
        if isinstance(target, ast.Subscript):
            told = self._told(node, function, target.value, _index(target.slice), node.value, how="augment")
            return ast.copy_location(ast.Expr(told), node)
        if isinstance(target, ast.Name):
            now: ast.expr = ast.Name(target.id, ast.Load())
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            now = ast.Attribute(ast.Name(target.value.id, ast.Load()), target.attr, ast.Load())
        else:
            return node
        return ast.copy_location(ast.Assign([target], self._told(node, function, now, node.value)), node)

    def _told(self, node: Any, *arguments: ast.expr, how: str = "") -> ast.Call:
        recorder: ast.expr = ast.Name(NAME, ast.Load())
        function = ast.Attribute(recorder, how, ast.Load()) if how else recorder
        site = ast.Constant(f"{self.file}:{node.lineno}")
        return ast.copy_location(ast.Call(function, [site, *arguments], []), node)


def _operator(kind: ast.AST, prefix: str = "") -> ast.expr:
    """Return the expression that names an operator's function."""
    name = prefix + _OPERATORS.get(type(kind), "")
    name += "_" if name in ("and", "or") else ""
    return ast.Attribute(ast.Attribute(ast.Name(NAME, ast.Load()), "operator", ast.Load()), name, ast.Load())


def _index(node: ast.expr) -> ast.expr:
    """Return an index as an expression outside of brackets."""
    if isinstance(node, ast.Slice):
        ends = [end or ast.Constant(None) for end in (node.lower, node.upper, node.step)]
        return ast.Call(ast.Attribute(ast.Name(NAME, ast.Load()), "slice", ast.Load()), ends, [])
    if isinstance(node, ast.Tuple):
        return ast.Tuple([_index(one) for one in node.elts], ast.Load())
    return node
