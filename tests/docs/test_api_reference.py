"""Every public name of the package is on a page of the API reference."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from pathlib import Path

import pytest

import uanref
from uanref import cli

DOCS = Path(__file__).parents[2] / "docs"


def modules() -> list[str]:
    found = [each.name for each in pkgutil.walk_packages(uanref.__path__, "uanref.")]
    return ["uanref", *(name for name in found if not any(part.startswith("_") for part in name.split(".")))]


def public(module: str) -> dict[str, object]:
    """Return a module's public names: those in ``__all__``, and the classes and functions defined in it."""
    loaded = importlib.import_module(module)
    own = {
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(value))
        and value.__module__ == module
    }
    return {name: getattr(loaded, name) for name in sorted(own | set(getattr(loaded, "__all__", ())))}


def test_every_module_has_a_place():
    text = "".join(path.read_text("utf-8") for path in DOCS.rglob("*.md") if "tutorials" not in path.parts)
    given = re.findall(r"^\.\. automodule:: (\S+)$", text, re.MULTILINE)
    assert len(modules()) > 90
    assert sorted(given) == sorted(modules()), "give the module an automodule directive on a page of docs/api"


@pytest.mark.slow
def test_every_public_name_is_described(site):
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    described = {name for kind, names in found.data.items() if kind.startswith("py:") for name in names}
    # A name that is exported again counts where it is described; a command counts by its help, on the same page.
    aliases = defaultdict(set)
    for module in modules():
        for name, value in vars(importlib.import_module(module)).items():
            aliases[id(value)].add(f"{module}.{name}")
    missing = [
        f"{module}.{name}"
        for module in modules()
        for name, value in public(module).items()
        if not (aliases[id(value)] | {f"{module}.{name}"}) & described
    ]
    commands = {f"{command.callback.__module__}.{command.callback.__name__}" for command in cli.app.registered_commands}
    assert commands
    assert sorted(set(missing) - commands) == []


@pytest.mark.parametrize("command", [c.name or c.callback.__name__ for c in cli.app.registered_commands])
def test_every_command_has_a_help_text(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 4
