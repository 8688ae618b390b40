"""What a public function raises by itself stands in its docstring, mostly under ``Raises:``."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import uanref

PACKAGE = Path(uanref.__file__).parent
UNSAID = {"NotImplementedError", "AssertionError", "KeyboardInterrupt", "SystemExit"}
"""What stands for a method that a subclass writes, for a slip of the package's own, or for an end."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(node: ast.AST, owner: str = "") -> Iterator[tuple[str, Function, str]]:
    """Yield the public functions and methods with their docstrings; a class's stands for its ``__init__``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public(child, child.name)
        elif isinstance(child, Function):
            document = ast.get_docstring(child) or ""
            if child.name == "__init__" and isinstance(node, ast.ClassDef) and owner:
                yield owner, child, ast.get_docstring(node) or ""
            elif not child.name.startswith("_"):
                yield f"{owner}.{child.name}" if owner else child.name, child, document


def raised(function: Function) -> set[str]:
    """Return the names of the exceptions that stand behind a ``raise`` and reach the caller."""
    found: set[str] = set()

    def visit(node: ast.AST, caught: frozenset[str]) -> None:
        if isinstance(node, Function | ast.Lambda | ast.ClassDef) and node is not function:
            return
        if isinstance(node, ast.Raise) and node.exc is not None:
            named = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
            if name[:1].isupper() and name not in caught:
                found.add(name)
        if isinstance(node, ast.Try):
            kinds = {getattr(each, "attr", getattr(each, "id", "")) for h in node.handlers if h.type for each in
                     (h.type.elts if isinstance(h.type, ast.Tuple) else [h.type])}  # fmt: skip
            for child in node.body:
                visit(child, caught | kinds)
            for child in (*node.handlers, *node.orelse, *node.finalbody):
                visit(child, caught)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, caught)

    visit(function, frozenset())
    return found - UNSAID


def families(kind: str) -> list[str]:
    """Return the names that stand for an exception: OSError for FileNotFoundError, too."""
    bases = getattr(builtins, kind, object).__mro__[1:]
    return [kind, *(base.__name__ for base in bases if base not in (Exception, BaseException, object))]


def unsaid(source: str) -> dict[str, set[str]]:
    """Return the exceptions that the docstrings of a module's public functions do not name."""
    found = {}
    for name, function, document in public(ast.parse(source)):
        if any("command" in ast.unparse(each) for each in function.decorator_list):  # its docstring is its help
            continue
        if missing := {kind for kind in raised(function) if not any(each in document for each in families(kind))}:
            found[name] = missing
    return found


def test_every_exception_is_told():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}": missing
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, missing in unsaid(path.read_text("utf-8")).items()
    }
    assert found == {}


def test_the_reader_of_docstrings_sees():
    said = 'def f(x):\n    """Do.\n\n    Raises:\n        ValueError: no.\n    """\n    raise ValueError("no")\n'
    assert unsaid(said) == {}
    assert unsaid(said.replace("ValueError: no", "TypeError: no")) == {"f": {"ValueError"}}
    assert unsaid("def f():\n    try:\n        raise KeyError\n    except KeyError:\n        pass\n") == {}
    assert unsaid("def f():\n    try:\n        pass\n    except KeyError:\n        raise a.b.C('x')\n") == {"f": {"C"}}
    assert unsaid("class A:\n    def __init__(self):\n        raise ValueError\n") == {"A": {"ValueError"}}
    assert unsaid("def _f():\n    raise ValueError\n") == {}
