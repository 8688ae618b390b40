"""Slips: small changes of a function's syntax tree that a person deriving a gradient could make."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

# A pair of array functions of the same signature of which one is easily taken for the other.
SWAPS = {
    "add": "subtract",
    "subtract": "add",
    "multiply": "add",
    "divide": "multiply",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "sum": "mean",
    "mean": "sum",
}
# What leaves the other operand as it is.
NEUTRAL = {"add": 0.0, "subtract": 0.0, "multiply": 1.0, "divide": 1.0}
ELEMENTWISE = {"exp", "expm1", "log", "log1p", "sqrt", "square", "tanh", "erf", "reciprocal"}
# This package's own sums, and how many summands each has: a sum becomes a mean by dividing by it.
COUNTS = {
    "sum_rows": "{0}.shape[-1]",
    "sum_samples": "({0}.shape[-1] * {0}.shape[-3])",
    "merge_sums": "len({0})",
    "_sum": "len({0})",
}
POSITIONAL_AXES = {"sum", "mean", "max", "min", "cumsum", "swapaxes", "moveaxis", "transpose", "squeeze"}
FLIPPED: dict[type, type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
DROPPED = "(dropped)"


class Mutation(NamedTuple):
    """One slip.

    Attributes:
        operator: its kind.
        text: ``"before -> after"``, the smallest expression or statement that it changes; numbered where a function
            has the same text twice, so that it names the slip within its function.
        tree: the whole function with the slip in it.
    """

    operator: str
    text: str
    tree: ast.FunctionDef


class _Step(NamedTuple):
    """One step down a tree: which child of ``parent``."""

    parent: ast.AST
    field: str
    index: int | None  # where the field is a list


class _Site(NamedTuple):
    """A node and the way to it from the function."""

    path: tuple[_Step, ...]
    node: ast.AST


def mutations(function: ast.FunctionDef, on_device: bool = False) -> list[Mutation]:
    """Return every slip of one function, in the order of its source; none of them equals another or the original.

    ``on_device`` tells whether those count that only show where array code runs on a device.
    """
    found: list[Mutation] = []
    seen = {ast.dump(function)}
    repeats: dict[str, int] = {}
    for site in _sites(function, on_device):
        for operator, changed in _slips(site):
            tree = _changed(site, changed)
            dump = ast.dump(tree)
            if dump in seen:
                continue
            seen.add(dump)
            after = DROPPED if isinstance(changed, ast.Pass) else ast.unparse(changed)
            text = f"{ast.unparse(site.node)} -> {after}"
            if operator == "condition":
                text = f"if {text}"
            repeats[text] = repeats.get(text, 0) + 1
            if repeats[text] > 1:
                text += f" #{repeats[text]}"
            found.append(Mutation(operator, text, tree))
    return found


def _changed(site: _Site, node: ast.AST) -> ast.FunctionDef:
    """Return the function with ``node`` at the site; all that is not on the way to it is shared, not copied."""
    for parent, field, index in reversed(site.path):
        above = copy.copy(parent)
        if index is not None:
            children = list(getattr(parent, field))
            children[index] = node
            setattr(above, field, children)
        else:
            setattr(above, field, node)
        node = above
    assert isinstance(node, ast.FunctionDef)
    return node


# --- where ------------------------------------------------------------------------------------------


def _sites(node: ast.AST, on_device: bool, path: tuple[_Step, ...] = ()) -> Iterator[_Site]:
    """Yield what may be changed below ``node``: no annotation, default, docstring, message or test of the input."""
    skipped: tuple[str, ...] = ("annotation", "args", "returns", "decorator_list", "type_params")
    if isinstance(node, ast.Call):
        skipped = ()
    elif isinstance(node, ast.If | ast.IfExp) and not on_device and _asks_for_device(node.test):
        skipped = ("test", "body")  # never run on the host
    for field, value in ast.iter_fields(node):
        if field in skipped:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_talk(child):
                below = (*path, _Step(node, field, index))
                yield _Site(below, child)
                yield from _sites(child, on_device, below)


def _asks_for_device(test: ast.expr) -> bool:
    """Tell whether a condition is False wherever there is no device."""
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            return any(_asks_for_device(value) for value in values)
        case ast.Compare(left=ast.Call(func=ast.Attribute(attr="name_of")), ops=[ast.NotEq()]):
            return True
    return False


def _is_talk(node: ast.AST) -> bool:
    """Tell whether this computes nothing: a docstring, an assertion, a refusal."""
    match node:
        case ast.If():
            return not node.orelse and all(isinstance(statement, ast.Raise) for statement in node.body)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name))):
            return name == "namespace" or name.startswith("_check")
        case ast.Expr():
            return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr)


# --- what -------------------------------------------------------------------------------------------


def _slips(site: _Site) -> Iterator[tuple[str, ast.AST]]:
    """Yield (kind, what a slip would write instead) for one node."""
    above = site.path[-1]
    if isinstance(above.parent, ast.If | ast.IfExp) and above.field == "test":
        yield "condition", ast.Constant(True)
        yield "condition", ast.Constant(False)
    match node := site.node:
        case ast.BinOp():
            yield from _binary(node)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "sign", operand
        case ast.AugAssign():
            yield from _augmented(node)
        case ast.Expr(value=ast.Call()):
            yield "statement", ast.Pass()
        case ast.Return():
            yield from _returned(node)
        case ast.Call():
            yield from _call(node)
        case ast.Subscript():
            yield from _subscript(node)
        case ast.Attribute(attr="T", value=value):
            yield "transpose", value
        case ast.Attribute(attr="iadd", value=value):
            yield "sign", ast.Attribute(value, "isub", ast.Load())


def _binary(node: ast.BinOp) -> Iterator[tuple[str, ast.AST]]:
    left, right = node.left, node.right
    match node.op:
        case ast.Add():
            yield "sign", ast.BinOp(left, ast.Sub(), right)
            yield "term", left
            yield "term", right
        case ast.Sub():
            yield "sign", ast.BinOp(left, ast.Add(), right)
            yield "term", left
            yield "term", ast.UnaryOp(ast.USub(), right)
        case ast.Mult() | ast.BitAnd():
            yield "factor", left
            yield "factor", right
        case ast.Div():
            yield "divisor", left
            if not isinstance(left, ast.Constant):
                yield "factor", ast.BinOp(ast.Constant(1.0), ast.Div(), right)
        case ast.FloorDiv():
            yield "divisor", left
        case ast.Pow():
            yield "factor", left
            yield "factor", ast.BinOp(left, ast.Pow(), ast.BinOp(right, ast.Sub(), ast.Constant(1)))


def _augmented(node: ast.AugAssign) -> Iterator[tuple[str, ast.AST]]:
    kind = "term" if isinstance(node.op, ast.Add | ast.Sub) else "factor"
    yield kind, ast.Pass()
    if type(node.op) in FLIPPED:
        yield "sign" if kind == "term" else "divisor", ast.AugAssign(node.target, FLIPPED[type(node.op)](), node.value)
    # The other operand, what stood in the target, forgotten.
    target: ast.expr = node.target
    if isinstance(target, ast.Name):
        target = ast.Subscript(ast.Name(target.id, ast.Load()), ast.Constant(...), ast.Store())
    value = ast.UnaryOp(ast.USub(), node.value) if isinstance(node.op, ast.Sub) else node.value
    yield kind, ast.Assign([target], value, lineno=node.lineno)


def _returned(node: ast.Return) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.value, ast.Name):
        yield "sign", ast.Return(_negative(node.value))
    if isinstance(node.value, ast.Tuple):
        for i, entry in enumerate(node.value.elts):
            if not isinstance(entry, ast.Constant):
                yield "sign", ast.Return(_with_entry(node.value, i, _negative(entry)))


def _call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    function, args = node.func, node.args
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    out = any(keyword.arg == "out" for keyword in node.keywords)
    # 1. Another function of the same signature.
    if name in SWAPS and isinstance(function, ast.Attribute):
        yield "function", _with_function(node, SWAPS[name])
    if name in COUNTS and isinstance(function, ast.Name):
        summands = ast.parse(COUNTS[name].format(f"({ast.unparse(args[0])})"), mode="eval").body
        yield "function", ast.BinOp(node, ast.Div(), summands)
    # 2. One operand forgotten.
    if name in NEUTRAL and len(args) >= 2:
        for i in (0, 1):
            yield "term" if NEUTRAL[name] == 0.0 else "factor", _with_argument(node, i, ast.Constant(NEUTRAL[name]))
    if name in ("subtract", "divide"):
        yield "sign", _with_argument(_with_argument(node, 0, args[1]), 1, args[0])
    if name in ELEMENTWISE and len(args) == 1:
        if out:
            copied = _with_function(node, "multiply")
            yield "function", ast.Call(copied.func, [args[0], ast.Constant(1.0)], node.keywords)
        else:
            yield "function", args[0]
    # 3. A link of the chain rule forgotten, or its sign.
    if (name.endswith("_backward") or name in ("backward", "per_channel", "softplus", "reversed")) and args:
        yield "chain", args[0]
    if name == "receive":
        yield "sign", _with_argument(node, 0, _negative(args[0]))
    # 4. An axis beside the right one.
    if name in ("swapaxes", "transpose") and isinstance(function, ast.Attribute):
        yield "transpose", function.value
    if name in POSITIONAL_AXES:
        for i, argument in enumerate(args):
            for changed in _beside(argument):
                yield "axis", _with_argument(node, i, changed)
        for i in range(len(args) - 1) if name == "transpose" else ():
            yield "axis", _with_argument(_with_argument(node, i, args[i + 1]), i + 1, args[i])
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("axis", "axes"):
            for changed in _beside(keyword.value):
                keywords = [*node.keywords]
                keywords[i] = ast.keyword(keyword.arg, changed)
                yield "axis", ast.Call(function, args, keywords)


def _subscript(node: ast.Subscript) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.slice, ast.Tuple):
        # A new axis one place to the left or right, past a slice: past a number it would stay where it is.
        entries = node.slice.elts
        for i in range(len(entries) - 1):
            two = entries[i : i + 2]
            if any(map(_is_none, two)) and any(isinstance(entry, ast.Slice) or _is_dots(entry) for entry in two):
                swapped = [*entries[:i], entries[i + 1], entries[i], *entries[i + 2 :]]
                yield "axis", ast.Subscript(node.value, ast.Tuple(swapped, ast.Load()), node.ctx)
    else:
        for changed in _beside(node.slice):
            yield "axis", ast.Subscript(node.value, changed, node.ctx)


def _beside(axis: ast.expr) -> Iterator[ast.expr]:
    """Yield the neighbours of a written axis or index; of a tuple, those of each entry."""
    if isinstance(axis, ast.Tuple):
        for i, entry in enumerate(axis.elts):
            for changed in _beside(entry):
                yield _with_entry(axis, i, changed)
        return
    try:
        value = ast.literal_eval(axis)
    except ValueError:
        return
    if type(value) is int:
        if value != -1:  # -1 + 1 is the other end, no neighbour
            yield ast.Constant(value + 1) if value >= -1 else _negative(ast.Constant(-value - 1))
        if value != 0:
            yield ast.Constant(value - 1) if value > 0 else _negative(ast.Constant(1 - value))


def _negative(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), node)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_dots(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _with_entry(node: ast.Tuple, index: int, entry: ast.expr) -> ast.Tuple:
    return ast.Tuple([*node.elts[:index], entry, *node.elts[index + 1 :]], node.ctx)


def _with_argument(node: ast.Call, index: int, argument: ast.expr) -> ast.Call:
    return ast.Call(node.func, [*node.args[:index], argument, *node.args[index + 1 :]], node.keywords)


def _with_function(node: ast.Call, name: str) -> ast.Call:
    assert isinstance(node.func, ast.Attribute)
    return ast.Call(ast.Attribute(node.func.value, name, ast.Load()), node.args, node.keywords)
