"""Definitions stay what they are: a few lines that read like the mathematics, and nothing that makes them fast."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import uanref
from uanref.layers import conv, linear, pooling, window
from uanref.norms import batch, mixture_moments, mixture_transform, mixture_weights, standardize

ROOT = Path(uanref.__file__).parent
PLACES = ("layers", "norms", "neighbours", "losses.py", "optimizers")


def files(place: str) -> list[Path]:
    """Return the modules of a package below uanref, or the module itself."""
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


DEFINITION_FILES = [path for place in PLACES for path in files(place)]
by_path = pytest.mark.parametrize("path", DEFINITION_FILES, ids=lambda path: str(path.relative_to(ROOT)))


# --- few lines ------------------------------------------------------------------------------------


def code_lines(source: str, name: str) -> int:
    """Count the lines of code in the body of a module-level function: no signature, docstring, comment, blank line."""
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    first, last = body[0].lineno, function.end_lineno or 0
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    return len(
        {
            line
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type not in silent
            for line in range(token.start[0], token.end[0] + 1)
            if first <= line <= last
        }
    )


def lines_of(*functions: tuple[ModuleType, str]) -> int:
    return sum(code_lines(Path(module.__file__ or "").read_text("utf-8"), name) for module, name in functions)


def test_lines_of_code_are_counted() -> None:
    source = '''
def other():
    return 0

def f(x,
      y):
    """One line.

    And more.
    """
    # a comment
    z = (x
         + y)  # one more

    return z  # the third
'''
    assert code_lines(source, "f") == 3
    assert code_lines(source, "other") == 1


# What a reader reads of each subject, forward and backward together, and how many lines of code it has at most.
BOUNDS: dict[str, tuple[int, list[tuple[ModuleType, str]]]] = {
    "standardize": (
        19,
        [
            (standardize, name)
            for name in (
                "moments", "channel_moments", "standardize", "standardize_backward",
                "scale_and_shift", "scale_and_shift_backward",
            )
        ],
    ),
    "batch normalization, forward": (7, [(batch, "statistics"), (batch, "normalize")]),
    "batch normalization, backward": (4, [(batch, "backward")]),
    "batch normalization, backward in eval mode": (4, [(batch, "backward_fixed")]),
    "mixture and UAN, forward": (
        26,
        [
            (mixture_weights, "weights"),
            (mixture_moments, "weighted_moments"),
            (mixture_moments, "batch_moments"),
            (mixture_transform, "transform"),
        ],
    ),
    "mixture and UAN, backward": (
        33,
        [
            (mixture_weights, "weights_backward"),
            (mixture_moments, "weighted_moments_backward"),
            (mixture_transform, "transform_backward"),
        ],
    ),
    "convolution, forward": (11, [(conv, "forward"), (conv, "columns"), (window, "patches")]),
    "convolution, backward": (13, [(conv, "backward"), (conv, "add_columns"), (window, "add_patches")]),
    "linear": (6, [(linear, "forward"), (linear, "backward")]),
    "pooling": (
        13,
        [(pooling, name) for name in ("max_pool", "max_pool_backward", "mean_pool", "mean_pool_backward")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("subject", BOUNDS)
def test_a_definition_has_few_lines_of_code(subject: str) -> None:
    most, functions = BOUNDS[subject]
    assert lines_of(*functions) <= most


# --- nothing that makes them fast -------------------------------------------------------------------

# Words of blocks and buffers.
FAST = {"Scratch", "scratch", "walk", "sample_blocks", "blocks", "block", "per_channel", "merge_sums", "merge_moments"}
# Where the backend is asked for all the same, and why. Values are read on the host alone: a device would have to wait.
BACKEND_TESTS = {
    "neighbours/clade.py: _check_classes": "classes out of range are refused on the host",
    "layers/layer.py: _take": "an upstream gradient on another backend than the output's is refused",
    "layers/state.py: move": "its argument may be a backend's name or a dtype",
}


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield every name that the code reads, writes, imports, calls, or gives to an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")


def keywords_in(tree: ast.AST) -> set[str]:
    return {
        keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords if keyword.arg
    }


def backend_tests(path: Path) -> set[str]:
    """Return the functions in a file that compare a backend's name with something."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for compared in (node for node in ast.walk(tree) if isinstance(node, (ast.Compare, ast.Match))):
        if {"name_of", "current", "BACKENDS"} & set(names_in(compared)) or {"numpy", "cupy"} & texts(compared):
            inside = [f for f in functions if f.lineno <= compared.lineno <= (f.end_lineno or 0)]
            where = max(inside, key=lambda f: f.lineno).name if inside else "module"
            found.add(f"{path.relative_to(ROOT).as_posix()}: {where}")
    return found


def texts(tree: ast.AST) -> set[Any]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@by_path
def test_a_definition_knows_no_blocks_and_no_buffers(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not FAST & set(names_in(tree))
    assert "out" not in keywords_in(tree)


def test_a_definition_does_not_ask_for_the_backend() -> None:
    assert set().union(*map(backend_tests, DEFINITION_FILES)) == set(BACKEND_TESTS)


# --- who imports whom -------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it, with what it takes from there."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if re.match(r"uanref(\.|$)", name)}


@by_path
def test_of_the_kernels_a_definition_imports_the_tie_alone(path: Path) -> None:
    assert {name for name in imports(path) if name.startswith("uanref.kernels")} <= {"uanref.kernels.accelerated"}


@pytest.mark.parametrize("path", files("kernels"), ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_import_no_layer_norm_loss_or_optimizer(path: Path) -> None:
    allowed: Callable[[str], bool] = re.compile(r"uanref\.(backend|kernels)(\.|$)").match  # type: ignore[assignment]
    assert not [name for name in imports(path) if not allowed(name)]


@pytest.mark.parametrize("path", files("kernels/cpu"), ids=lambda path: path.stem)
def test_versions_for_the_host_know_nothing_of_cuda(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("uanref.kernels.cuda")]
