"""The arrows of ``docs/architecture.md``: what may import what. They run down only, and there are no circles.

Read from the sources, imports inside functions included; those for types alone count as none.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import uanref

PACKAGE = Path(uanref.__file__).parent
LEVELS = (
    {"__main__"},
    {"cli"},
    {"experiments", "verify", "bench", "stepping", "replay", "plots", "docs"},
    {"training", "models", "data", "gradcheck", "factories", "own_code", "own_sending", "torch_state"},
    {"losses", "loss_checks", "norms", "neighbours", "layers", "optimizers", "derivations"},
    {"kernels"},
    {"backend"},
    {"npz", "files", "machine", "diagnosis", "own_errors", "startup", "reasons"},
)
"""Rooms from the top: each imports from those below. Those of the last line know no layer and no array's meaning."""

DEFINITIONS = {"losses", "norms", "neighbours", "layers", "optimizers"}
ASIDE = {
    "norms": {"layers"},
    "neighbours": {"layers", "norms"},
    "losses": {"layers", "loss_checks"},
    "optimizers": {"layers"},
    "training": {"data", "models", "factories"},
    "models": {"factories", "own_code"},
    "factories": {"own_code"},
    "own_sending": {"own_code", "factories"},
    "bench": {"verify", "plots"},
    "experiments": {"plots", "bench"},
    "replay": {"stepping", "experiments"},
    "npz": {"files", "backend"},
    "machine": {"backend", "diagnosis"},
    "files": {"reasons"},
    "diagnosis": {"reasons"},
    "own_errors": {"reasons"},
}
"""Arrows within a level. No two rooms point at each other."""

ONLY = {"stepping": {"derivations", "backend", "npz", "files"}, "derivations": {"backend"}, "kernels": {"backend"}}
"""Rooms that may import no others, whatever lies below them."""

EXCEPTIONS = {
    ("uanref.plots.densities", "uanref.experiments.activations"): "a record of arrays, which both need",
    ("uanref.factories", "uanref.own_sending"): "when a factory is pickled; the other makes factories from pickles",
}
ROOT = {
    ("uanref.machine", "uanref"): "its version",
    ("uanref.cli.app", "uanref"): "its version",
    ("uanref.verify.vectors.formats", "uanref"): "its version",
    ("uanref.verify.vectors.folder", "uanref"): "where it is installed",
    ("uanref.experiments.parallel", "uanref"): "where it is installed",
    ("uanref.experiments.cells", "uanref"): "its version",
}
"""Who imports the package itself, which imports nearly everything, and for what."""


def name_of(path: Path) -> str:
    return ".".join(("uanref", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def level(name: str) -> int:
    return next(i for i, rooms in enumerate(LEVELS) if name in rooms)


def imported(source: str, modules: dict[str, Path] = MODULES) -> Iterator[tuple[str, str]]:
    """Yield each module of the package that ``source`` imports, and the name that it takes from it."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if each.name.partition(".")[0] == "uanref")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if (node.module or "").partition(".")[0] == "uanref":
                for each in node.names:
                    whole = f"{node.module}.{each.name}"
                    yield (whole, "") if whole in modules else (str(node.module), each.name)


@functools.cache
def arrows() -> list[tuple[str, str, str]]:
    """Return every import in the package, the package's own front page left out: module, imported module, name."""
    return [
        (module, *found)
        for module, path in MODULES.items()
        if module != "uanref" and not module.startswith("uanref.ports")
        for found in imported(path.read_text("utf-8"))
    ]


def refused(module: str, other: str) -> bool:
    """Tell whether the import is against the rule."""
    one, two = room(module), room(other)
    if one == two:
        return False
    if two == "":
        return (module, other) not in ROOT
    if one in ONLY and two not in ONLY[one] | LEVELS[-1]:
        return True
    return level(two) <= level(one) and two not in ASIDE.get(one, ())


def test_arrows_run_down():
    found = {(module, other) for module, other, _ in arrows() if refused(module, other)}
    assert found == EXCEPTIONS.keys()  # one that is gone goes from the list as well


def test_every_room_has_a_level_and_is_in_the_page():
    rooms = {room(module) for module in MODULES} - {"", "ports"}
    assert rooms == set().union(*LEVELS)
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
    assert [name for name in rooms - {"__main__"} if f"{name}/" not in page and f"{name}.py" not in page] == []


def test_the_rooms_make_no_circle():
    edges = {(room(module), room(other)) for module, other, _ in arrows() if (module, other) not in EXCEPTIONS}
    edges = {(one, two) for one, two in edges if one != two and two}
    while leaves := {two for _, two in edges} - {one for one, _ in edges}:
        edges = {(one, two) for one, two in edges if two not in leaves}
    assert edges == set()


def test_nobody_lists_more_than_there_is():
    found = {(room(module), room(other)) for module, other, _ in arrows()}
    assert {(one, two) for one, others in ASIDE.items() for two in others} <= found
    assert {(module, other) for module, other, _ in arrows()} >= ROOT.keys()


def test_definitions_know_of_faster_versions_by_the_tie_alone():
    taken = {
        (other, name) for module, other, name in arrows() if room(module) in DEFINITIONS and room(other) == "kernels"
    }
    assert taken == {("uanref.kernels", "accelerated")}


def test_a_file_of_definitions_imports_the_backend_the_tie_and_other_definitions():
    """A file without a layer, that is. The layers around definitions need more."""
    plain = {module for module in MODULES if module.startswith(("uanref.norms.mixture_", "uanref.norms.standardize"))}
    plain |= {"uanref.layers.sums"}
    assert len(plain) > 6
    found = {(module, other) for module, other, _ in arrows() if module in plain}
    allowed = plain | {"uanref.backend", "uanref.kernels"}
    assert {(module, other) for module, other in found if other not in allowed} == set()


def test_versions_import_no_layer():
    found = {room(other) for module, other, _ in arrows() if room(module) == "kernels"}
    assert found == {"kernels", "backend"}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("uanref.layers.conv", "from uanref import training", True),
        ("uanref.layers.conv", "def f():\n    import uanref.norms.batch", True),
        ("uanref.layers.conv", "from uanref.backend import Array", False),
        ("uanref.layers.conv", "from uanref import Linear", True),
        ("uanref.layers.conv", "if TYPE_CHECKING:\n    from uanref.training.trainer import Trainer", False),
        ("uanref.derivations.uan", "from uanref.kernels import accelerated", True),
        ("uanref.stepping.walk", "from uanref.layers.linear import Linear", True),
        ("uanref.kernels.cpu.conv", "from uanref.layers.conv import Conv2d", True),
        ("uanref.backend", "from uanref import npz", False),
        ("uanref.experiments.run", "from uanref.verify import check", True),
    ],
)
def test_the_rule_sees(module, source, wrong):
    assert any(refused(module, other) for other, _ in imported(source)) == wrong
