"""Names and commands: what the package exports, where a name is described, what every command's help says."""

from __future__ import annotations

import sys
import types
from typing import Any

from docutils import nodes
from site_common import parsed
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import uanref


def setup(app: Sphinx) -> None:
    app.add_directive("public-names", PublicNames)
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", follow_export)


def skip_fields(app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """A named tuple's fields are told in its docstring; what Python says of them ("field number 0") is not."""
    return True if type(found).__name__ == "_tuplegetter" else None


def follow_export(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> nodes.Node | None:
    """Lead a reference to an exported name, such as ``uanref.gradcheck.check``, to where it is described."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for name in (target, f"{node.get('py:module')}.{target}"):
        module, _, attribute = name.rpartition(".")
        found = getattr(sys.modules.get(module), attribute, None)
        home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
        if module.startswith("uanref") and home != target and home in env.domains.python_domain.objects:
            return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, content)
    return None


class PublicNames(SphinxDirective):
    """The names in ``uanref.__all__``, grouped by the package that holds them."""

    def run(self) -> list[nodes.Node]:
        groups: dict[str, list[str]] = {}
        for name in uanref.__all__:
            found = getattr(uanref, name)
            if isinstance(found, types.ModuleType):
                groups.setdefault("modules", []).append(f"{{py:mod}}`{name} <uanref.{name}>`")
            else:
                group = found.__module__.split(".")[1]
                full = f"{found.__module__}.{found.__qualname__}"
                groups.setdefault(group, []).append(f"{{py:obj}}`{name} <{full}>`")
        return parsed(self, [f"- {group}: {', '.join(groups[group])}" for group in sorted(groups)])


class CommandHelp(SphinxDirective):
    """Every command's help text, as a terminal of 80 columns shows it."""

    def run(self) -> list[nodes.Node]:
        from typer.testing import CliRunner

        from uanref import cli

        lines = []
        for command in cli.app.registered_commands:
            name = command.name or command.callback.__name__
            shown = CliRunner().invoke(cli.app, [name, "--help"], prog_name="uanref", env={"COLUMNS": "80"})
            lines += [f"## uanref {name}", "", "```text", *shown.output.strip().splitlines(), "```", ""]
        return parsed(self, lines)
